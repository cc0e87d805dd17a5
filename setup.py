"""The one thing that pyproject.toml cannot say: a README whose links work outside the repository.

Links between files become links to where the repository is published, ``Source`` in ``[project.urls]``. As
long as it is not published anywhere they become plain text, and pictures are left out.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
#: A picture or a link in Markdown: text and target.
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def absolute_links(text: str, source: str | None) -> str:
    """``text``, Markdown, with relative links made absolute below ``source``, or taken out without one."""

    def replaced(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        if source is None:
            return "" if picture else words
        return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/main/{target})"

    return LINK.sub(replaced, text)


def main() -> None:
    """Called by setuptools' build."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    setup(
        long_description=absolute_links((ROOT / "README.md").read_text(), urls.get("Source")),
        long_description_content_type="text/markdown",
    )


if __name__ == "__main__":
    main()
