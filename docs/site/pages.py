"""The files of the site: the pages of docs/, the repository's own documents, and what code writes."""

import posixpath
import re
import shutil
from pathlib import Path

from docs.site.diagrams import as_list
from docs.site.reference import PAGES

ROOT = Path(__file__).parents[2]
#: Documents that stand where readers of the repository look for them, and their place in the site.
DOCUMENTS = {
    "README.md": "index.md",
    "SECURITY.md": "guides/security.md",
    "CONTRIBUTING.md": "developing/contributing.md",
    "ARCHITECTURE.md": "developing/architecture.md",
    "CHANGELOG.md": "developing/changelog.md",
    "benchmarks/RESULTS.md": "developing/results.md",
    "benchmarks/NOTES.md": "developing/notes.md",
    "examples/README.md": "guides/examples.md",
    "study/README.md": "study/index.md",
    "study/PREREGISTRATION.md": "study/preregistration.md",
    "study/REPORT.md": "study/report.md",
    "study/answers/PREREGISTRATION.md": "study/answers/preregistration.md",
    "study/answers/PREREGISTRATION-smollm2.md": "study/answers/preregistration-smollm2.md",
    "study/answers/REPORT.md": "study/answers/report.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_SOURCE = re.compile(r'(\b(?:src|srcset)=")([^"]+)(")')
_DIAGRAM = re.compile(r"```mermaid\n(.*?)```", re.S)


def write_pages(folder: Path) -> None:
    """Put everything that the site is made of into ``folder``, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("site", "*.toml", "__pycache__"))
    shutil.copytree(ROOT / "study/figures", folder / "study/figures")
    places = {f"docs/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.md")}
    places |= {document: folder / place for document, place in DOCUMENTS.items()}
    for document, path in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        place = path.relative_to(folder).as_posix()
        path.write_text(for_the_site((ROOT / document).read_text(), document, place))
    for place, write in PAGES.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write())


def for_the_site(text: str, document: str, place: str) -> str:
    """A document as a page: links lead to pages, other files are named, diagrams need no script."""

    def link(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        new = _place_of(target, document, place)
        return words if new is None else f"{picture}[{words}]({new})"

    def source(found: re.Match[str]) -> str:
        return f"{found[1]}{_place_of(found[2], document, place)}{found[3]}"

    text = _DIAGRAM.sub(lambda found: as_list(found[1]), text)
    return _SOURCE.sub(source, _LINK.sub(link, text))


def _place_of(target: str, document: str, place: str) -> str | None:
    """Where a link of ``document`` leads within the site; None: to a file that is not in it."""
    path, mark, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return target
    leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
    if leads_to in DOCUMENTS:
        inside = DOCUMENTS[leads_to]
    elif leads_to.startswith("docs/"):
        inside = leads_to.removeprefix("docs/")
    elif leads_to.startswith("study/figures/"):
        inside = leads_to
    elif (ROOT / leads_to).exists():
        return None
    else:
        return target  # leads nowhere, which the build refuses
    return posixpath.relpath(inside, posixpath.dirname(place) or ".") + mark + anchor
