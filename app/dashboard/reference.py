"""``/docs``: the API's description as a page, by a Swagger UI of our own: it needs no internet."""

import hashlib
import html
from functools import lru_cache
from pathlib import Path

from app.dashboard.assets import Site, asset, media_type_of

PREFIX = "/docs/"
_FOLDER = Path(__file__).parent / "reference"


@lru_cache
def reference() -> Site:
    """The page and its files, read once."""
    paths = sorted(path for path in _FOLDER.iterdir() if path.is_file())
    bodies = {path.name: path.read_bytes() for path in paths}
    digest = hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in bodies.values()))
    short = digest.hexdigest()[:16]
    page = bodies.pop("index.html").decode().replace("{base}", html.escape(f"{PREFIX}{short}/"))
    files = {name: asset(body, media_type_of(name)) for name, body in bodies.items()}
    return Site(short, asset(page.encode(), "text/html; charset=utf-8"), files)
