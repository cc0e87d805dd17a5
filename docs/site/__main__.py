"""``python -m docs.site [FOLDER]``: build the site, whole and from here alone."""

import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.pages import ROOT, write_pages

#: The theme's search in a page from the disk wants this from another host; docs/assets has it.
SHIM = "https://unpkg.com/iframe-worker/shim"


def build(folder: Path) -> Path:
    """Build the site below ``folder``. Raises CalledProcessError for a link that leads nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pages(folder / "pages")
    shutil.copy(ROOT / "docs/site/zensical.toml", folder)
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    program = Path(sys.executable).with_name("zensical")
    subprocess.run([program, "build", "--strict", "--clean"], cwd=folder, check=True)
    for page in site.rglob("*.html"):
        up = "../" * len(page.relative_to(site).parts[:-1])
        page.write_text(page.read_text().replace(SHIM, f"{up}assets/iframe-worker.js"))
    return site / "index.html"


if __name__ == "__main__":
    try:
        print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs").resolve()))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
