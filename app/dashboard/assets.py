"""The dashboard's files, held in memory as they are sent: each with its gzip form.

All lie below one folder that is named after their content, ``/dashboard/<digest>/``: a browser may keep
them for ever, and after an upgrade a page never mixes old files with new ones.
"""

import gzip
import hashlib
import html
import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PREFIX = "/dashboard/"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".woff2": "font/woff2"}
_SMALLEST_ZIPPED = 200
#: The script that runs before the page is drawn; the page names it itself.
_FIRST = "theme-first.js"
#: Beside the sheets that it is made of: what they refer to, they refer to from there.
_STYLE = "css/all.css"


@dataclass(frozen=True)
class Asset:
    """A file to send; ``zipped`` is None where compression gains nothing."""

    body: bytes
    zipped: bytes | None
    media_type: str

    @property
    def weight(self) -> int:
        """Bytes that a browser loads."""
        return len(self.body if self.zipped is None else self.zipped)


@dataclass(frozen=True)
class Site:
    """The page and what it loads; ``files`` by their path below ``/dashboard/<digest>/``."""

    digest: str
    index: Asset
    files: dict[str, Asset]

    @property
    def weight(self) -> int:
        """Compressed bytes of everything that the page loads."""
        return self.index.weight + sum(
            asset.weight for name, asset in self.files.items() if not name.endswith(".txt")
        )


@lru_cache
def site() -> Site:
    """The dashboard, read once."""
    page = (_FOLDER / "index.html").read_text()
    bodies = _bodies()
    # The page is a part of what the name says: its list of files goes with their content.
    digest = hashlib.sha256(page.encode())
    for name, body in bodies.items():
        digest.update(name.encode() + b"\x00" + hashlib.sha256(body).digest())
    short = digest.hexdigest()[:16]
    files = {name: asset(body, media_type_of(name)) for name, body in bodies.items()}
    index = _page(page, f"{PREFIX}{short}/", list(bodies))
    return Site(short, asset(index.encode(), "text/html; charset=utf-8"), files)


def sources() -> dict[str, bytes]:
    """The files as they are written, by their path."""
    paths = sorted(path for path in _FOLDER.rglob("*") if path.is_file() and path.name != "index.html")
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in paths}


def _bodies() -> dict[str, bytes]:
    """The files as they are sent: style sheets as one, in the order of their names."""
    written = sources()
    sheets = {name: body for name, body in written.items() if name.endswith(".css")}
    others = {name: body for name, body in written.items() if name not in sheets}
    return {**others, _STYLE: b"\n".join(sheets.values())}


def _page(template: str, base: str, names: list[str]) -> str:
    """The page with the addresses of its files, each announced in its head: modules would otherwise be
    found one after the other, import by import, and fonts with the style sheet."""
    modules = (name for name in names if name.endswith(".js") and name != _FIRST)
    fonts = (name for name in names if name.endswith(".woff2"))
    links = [f'<link rel="stylesheet" href="{base}{_STYLE}">']
    links += [f'<link rel="modulepreload" href="{base}{name}">' for name in modules]
    links += [
        f'<link rel="preload" href="{base}{name}" as="font" type="font/woff2" crossorigin>' for name in fonts
    ]
    return template.replace("<!--files-->", "\n".join(links)).replace("{base}", html.escape(base))


def asset(body: bytes, media_type: str) -> Asset:
    """``body`` as it is sent."""
    unzipped = len(body) < _SMALLEST_ZIPPED or media_type == _TYPES[".woff2"]
    # No time in it: the same bytes from every process.
    return Asset(body, None if unzipped else gzip.compress(body, 9, mtime=0), media_type)


def media_type_of(name: str) -> str:
    """By the end of a file's name."""
    suffix = Path(name).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain; charset=utf-8"
