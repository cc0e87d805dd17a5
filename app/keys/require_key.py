"""Every request gets its project here, before anything else looks at it.

A request without a known key goes no further, unless its path is one of the few that are for everybody; a
route that is added later is guarded without knowing of this. Until the first key is made, the service is
keyless: it answers this machine alone, and everything belongs to one project.
"""

import contextlib
from functools import lru_cache
from urllib.parse import urlsplit

from sqlalchemy.exc import OperationalError, ProgrammingError, TimeoutError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.addresses import is_loopback
from app.core.audit import ACTOR, Actor
from app.core.auth import is_public
from app.core.error_handlers import database_away, error_response
from app.core.errors import ApiError, Unauthorized
from app.core.pages import refuse_foreign_pages
from app.core.quick_reads import QuickReads
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT
from app.keys.cache import KeyCache
from app.keys.open_requests import LetIn, OpenRequests
from app.keys.rate import RateLimiter
from app.keys.repository import Caller
from app.keys.secret import digest_of, is_secret
from app.keys.sessions import signed_in
from app.keys.uses import Uses
from trainer.system import logs

_BEARER = b"bearer "
_CHALLENGE = {"www-authenticate": "Bearer"}
#: Whoever is on the machine: the service is theirs until there is a key.
_KEYLESS = Caller(DEFAULT_PROJECT, operator=True)


class RequireKey:
    """ASGI middleware: puts who asks into ``request.state.caller`` and their project into
    ``request.state.project``, or answers 401, 403, 429.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._keys = KeyCache()
        self._open = OpenRequests(self._keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reads: QuickReads = scope["state"]["quick_reads"]
        public = is_public(scope["path"])
        try:
            if await self._is_keyless(scope, reads):
                caller, by = _keyless_caller(scope, public), None
            elif public:
                caller = by = None
            else:
                caller, by = await self._caller(scope, reads)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        except (OperationalError, ProgrammingError, TimeoutError) as error:
            if not public:  # which say themselves what does not answer
                if isinstance(error, ProgrammingError):
                    raise
                await database_away(scope["state"]["request_id"], error)(scope, receive, send)
                return
            caller = by = None
        if caller is not None:
            scope["state"]["caller"] = caller
            scope["state"]["project"] = caller.project_id
            ACTOR.set(_actor(scope, caller))
            logs.note(project=caller.project_id)
            if caller.key_id is not None:
                uses: Uses = scope["state"]["key_uses"]
                uses.note(caller.key_id)
        with contextlib.nullcontext() if by is None else self._open.noted(reads, by):
            await self._app(scope, receive, send)

    async def _is_keyless(self, scope: Scope, reads: QuickReads) -> bool:
        """Whether no key was ever made, as far as is known here.

        A key that another process, or a request just now, has made may be used at once: who has it does not
        work in the keyless service's project for the seconds until this is noticed.
        """
        if get_settings().oidc_issuer or not await self._keys.keyless(reads):
            return False
        secret = _bearer(scope)
        return (
            secret is None or not is_secret(secret) or not await self._keys.is_first(reads, digest_of(secret))
        )

    async def _caller(self, scope: Scope, reads: QuickReads) -> tuple[Caller, LetIn]:
        """Whose request it is, and what lets it in."""
        secret = _bearer(scope)
        if secret is None:
            if (person := await signed_in(scope, reads)) is not None:
                await _check_project_rate(scope, person[0])
                return person[0], LetIn(person[1], is_sign_in=True)
            raise Unauthorized(
                "No key was given: send it in the header 'Authorization: Bearer sk-…'. The operator of "
                "this service creates keys with `policysplit keys create`.",
                headers=_CHALLENGE,
            )
        digest = digest_of(secret)
        caller = await self._keys.caller(reads, digest)
        if caller is None:
            # Not the key itself, nor a part of it: messages end up in logs.
            raise Unauthorized("This key is unknown or has been revoked.", headers=_CHALLENGE)
        limit = caller.requests_per_minute or get_settings().requests_per_minute
        rates: RateLimiter = scope["state"]["rates"]
        if limit and caller.key_id is not None:
            await rates.check(caller.key_id, limit)
        await _check_project_rate(scope, caller)
        return caller, LetIn(digest)


async def _check_project_rate(scope: Scope, caller: Caller) -> None:
    if caller.project_requests_per_minute:
        rates: RateLimiter = scope["state"]["rates"]
        await rates.check(caller.project_id, caller.project_requests_per_minute, "The project's keys")


def _actor(scope: Scope, caller: Caller) -> Actor:
    peer = scope.get("client")
    return Actor(
        caller.key_id or caller.email, None if peer is None else peer[0], scope["state"]["request_id"]
    )


def _keyless_caller(scope: Scope, public: bool) -> Caller | None:
    """Who asks a service without keys: somebody on this machine, and no page of elsewhere."""
    if not public and not _is_local(scope):
        raise Unauthorized(
            "This service has no keys yet, so it answers only requests from its own machine. Its operator "
            "creates keys with `policysplit keys create`.",
            headers=_CHALLENGE,
        )
    refuse_foreign_pages(scope)
    return None if public else _KEYLESS


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
