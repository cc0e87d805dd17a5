"""What a key may do: four words, and each route says once, where it is declared, which of them opens it.

``@router.post("", **answers(JobObject), **TRAIN)``. What is declared stands in the API's description, as
``x-scopes``, and is asked before anything else of a request. A route that says nothing is the ``admin``'s.
"""

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypedDict

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.core.errors import Forbidden
from app.core.scope_names import SCOPES, Scope
from app.core.strict_json import JsonObject

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
#: Of a route, in its description.
FIELD = "x-scopes"


class Needs(TypedDict):
    """Arguments of a route that say which scopes open it: any one of them."""

    openapi_extra: JsonObject


def needs(*scopes: Scope, described: JsonObject | None = None) -> Needs:
    """Likewise; ``described`` is added to the route's description."""
    return {"openapi_extra": {**(described or {}), FIELD: list(scopes)}}


READ, TRAIN, INFER, ADMIN = needs("read"), needs("train"), needs("infer"), needs("admin")


def scopes_of(route: APIRoute) -> Sequence[str]:
    """Which scopes open a route."""
    return (route.openapi_extra or {}).get(FIELD, ("admin",))


def check_scopes(held: Collection[str], wanted: Sequence[str]) -> None:
    """Raise Forbidden where none of the ``wanted`` scopes is held."""
    if not any(scope in held for scope in wanted):
        has = ", ".join(scope for scope in SCOPES if scope in held) or "none"
        raise Forbidden(
            f"This needs the scope {' or '.join(repr(scope) for scope in wanted)}, and the key has: "
            f"{has}. A key of the project with the scope 'admin' can create one that has it.",
            code="missing_scope",
        )


class ScopedRoute(APIRoute):
    """``APIRouter(route_class=…)``: what comes without one of the route's scopes goes no further."""

    def get_route_handler(self) -> Handler:
        handle, wanted = self.permitted_handler(), scopes_of(self)

        async def handle_permitted(request: Request) -> Response:
            check_scopes(request.state.caller.scopes, wanted)
            return await handle(request)

        return handle_permitted

    def permitted_handler(self) -> Handler:
        """What answers a request that may be made: FastAPI's own, and in subclasses theirs."""
        return super().get_route_handler()
