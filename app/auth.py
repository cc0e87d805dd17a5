"""Who is asking: every request gets its project here, before anything else looks at it.

A request without a known key goes no further, unless its path is one of the few that are for everybody; a
route that is added later is guarded without knowing of this. Until the first key is made, the service is
keyless: it answers this machine alone, and everything belongs to one project.
"""

from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from sqlalchemy.exc import OperationalError, TimeoutError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.addresses import is_loopback
from app.dashboard.assets import PREFIX as DASHBOARD
from app.error_handlers import database_away, error_response
from app.errors import ApiError, Unauthorized
from app.keys.cache import KeyCache
from app.keys.rate import RateLimiter
from app.keys.repository import Caller
from app.settings import get_settings
from app.tables import DEFAULT_PROJECT

#: Paths that show nothing of any project; so do those below :data:`DASHBOARD`.
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_BEARER = b"bearer "
_CHALLENGE = {"www-authenticate": "Bearer"}
_KEYLESS = Caller(DEFAULT_PROJECT)


class RequireKey:
    """ASGI middleware: puts the caller's project into ``request.state.project``, or answers 401 or 429."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self._keys = KeyCache()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_public(scope["path"]):
            try:
                caller = await self._caller(scope)
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
            except (OperationalError, TimeoutError) as error:
                await database_away(scope["state"]["request_id"], error)(scope, receive, send)
                return
            scope["state"]["project"] = caller.project_id
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        if await self._keys.keyless():
            if not _is_local(scope):
                raise Unauthorized(
                    "This service has no keys yet, so it answers the machine that it runs on and no other. "
                    "Its operator makes keys with `policysplit keys create`.",
                    headers=_CHALLENGE,
                )
            return _KEYLESS
        secret = _bearer(scope)
        if secret is None:
            raise Unauthorized(
                "No key was given: a request has it in the header 'Authorization: Bearer sk-…'. The operator "
                "of this service makes keys with `policysplit keys create`.",
                headers=_CHALLENGE,
            )
        caller = await self._keys.caller(secret)
        if caller is None:
            # Not the key itself, nor a part of it: messages end up in logs.
            raise Unauthorized("The key is not known here, or it was revoked.", headers=_CHALLENGE)
        limit = caller.requests_per_minute or get_settings().requests_per_minute
        if limit and caller.key_id is not None:
            rates: RateLimiter = scope["state"]["rates"]
            await rates.check(caller.key_id, limit)
        return caller


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(DASHBOARD)


def _is_local(scope: Scope) -> bool:
    """Whether a request is from this machine and meant for it: the name in ``Host`` tells a page in a browser
    that has its own name point here (DNS rebinding)."""
    peer = scope.get("client")
    name = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "")
    return _are_local(None if peer is None else peer[0], name)


@lru_cache(maxsize=1024)
def _are_local(peer: str | None, name: str) -> bool:
    try:
        host = urlsplit(f"//{name}").hostname
    except ValueError:
        return False
    return (peer is None or is_loopback(peer)) and (not host or is_loopback(host))


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip().decode("latin-1") or None
    return None


async def current_project(request: Request) -> str:
    """The id of the caller's project."""
    return request.state.project


ProjectId = Annotated[str, Depends(current_project)]
