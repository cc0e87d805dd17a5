"""What web pages of elsewhere may do: nothing.

A browser sends requests for any page that is open in it, also to this machine. Without keys a request needs
no secret, so one that a page of another origin caused is refused, on every route, by what the browser itself
says of it: ``Origin``, ``Sec-Fetch-Site``, and the name in ``Host``, which tells a page that has its own name
point here (DNS rebinding). With keys there is nothing to refuse: a page has no key; what a signed-in
browser's cookie may do says ``app.keys.sessions``.
"""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import Scope

from app.core.addresses import is_loopback
from app.core.errors import Forbidden

#: A link to one of these may be followed from anywhere: they are files, and cannot be framed.
_PAGES = frozenset({"/", "/docs"})
#: Added to every answer. The policy is for HTML that has none of its own: nothing in it does anything.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
CLOSED_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"


def refuse_foreign_pages(scope: Scope) -> None:
    """Raise Forbidden for a request that a page of another origin caused. For services without keys."""
    hosts = list(header_values(scope, b"host"))
    for host in hosts:
        if not _names_this_machine(host):
            raise _foreign("Host", host)
    for origin in header_values(scope, b"origin"):
        if place_of(origin) not in hosts:
            raise _foreign("Origin", origin)
    for site in header_values(scope, b"sec-fetch-site"):
        if site not in ("same-origin", "none") and not _is_followed_link(scope):
            raise _foreign("Sec-Fetch-Site", site)


def _is_followed_link(scope: Scope) -> bool:
    """A page that is opened in a tab of its own, and says nothing to the one that led there."""
    return (
        scope["path"] in _PAGES
        and scope["method"] in ("GET", "HEAD")
        and list(header_values(scope, b"sec-fetch-mode")) == ["navigate"]
        and list(header_values(scope, b"sec-fetch-dest")) == ["document"]
    )


def place_of(origin: str) -> str | None:
    """Host and port of an origin; None for ``null``, which is none."""
    scheme, separator, place = origin.partition("://")
    return place if separator and scheme in ("http", "https") else None


@lru_cache(maxsize=1024)
def _names_this_machine(host: str) -> bool:
    """Whether a page cannot have had this name point here: an address, or localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def header_values(scope: Scope, name: bytes) -> Iterator[str]:
    """All that a request says by a header, by its name in small letters."""
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _foreign(header: str, value: str) -> Forbidden:
    return Forbidden(
        f"The header {header} is {value[:100]!r}: the request comes from a web page of another origin, or "
        "names a host other than localhost or an address of this machine. A service without keys refuses "
        "such requests; its operator can create keys with `policysplit keys create`.",
        code="foreign_origin",
    )
