"""Browsers that are signed in: a cookie that no script can read, in the place of a key.

A browser sends it along with whatever any page asks, so what a page of another origin caused is refused by
what the browser itself says of it. The cookie is ``SameSite=Strict`` beside that.
"""

import time

from sqlalchemy import bindparam, select
from starlette.types import Scope

from app.core.errors import Forbidden
from app.core.pages import header_values, place_of
from app.core.quick_reads import QuickReads
from app.core.tables import Project, SignIn
from app.keys.repository import Caller
from app.keys.secret import digest_of

COOKIE = "policysplit_session"
_SAFE = ("GET", "HEAD")

_CALLER = (
    select(SignIn.project_id, SignIn.email, SignIn.operator, SignIn.scopes, Project.requests_per_minute)
    .join(Project)
    .where(SignIn.sha256 == bindparam("digest"), SignIn.expires_at > bindparam("now"))
)


async def signed_in(scope: Scope, reads: QuickReads) -> tuple[Caller, str] | None:
    """Who is signed in where the request comes from, and the digest of the cookie; None without one, or with
    one that is over.

    Raises Forbidden for a request that a page of another origin caused.
    """
    if (secret := session_cookie(scope)) is None:
        return None
    digest = digest_of(secret)
    rows = await reads.rows(_CALLER, digest=digest, now=time.time())
    if not rows:
        return None
    refuse_other_origins(scope)
    project, email, operator, scopes, limit = rows[0]
    return Caller(project, None, None, bool(operator), frozenset(scopes.split()), limit, email), digest


async def is_signed_in(reads: QuickReads, digest: str) -> bool:
    """Whether the sign-in with this digest of its cookie is not over."""
    return bool(await reads.rows(_CALLER, digest=digest, now=time.time()))


def session_cookie(scope: Scope, name: str = COOKIE) -> str | None:
    """What the browser sent as the cookie of this name."""
    for header in header_values(scope, b"cookie"):
        for part in header.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name and value:
                return value.strip('"')
    return None


def refuse_other_origins(scope: Scope) -> None:
    """Raise Forbidden unless the browser says that a page of this very place asks, or a person."""
    hosts = set(header_values(scope, b"host"))
    origins, sites = list(header_values(scope, b"origin")), list(header_values(scope, b"sec-fetch-site"))
    said = bool(origins or sites) or scope["method"] in _SAFE
    if not (
        said
        and all(place_of(origin) in hosts for origin in origins)
        and all(site in ("same-origin", "none") for site in sites)
    ):
        raise Forbidden(
            "The request has a browser's sign-in but does not come from this service's page, so it is "
            "refused. Programs should send a key.",
            code="foreign_origin",
        )
