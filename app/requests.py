"""Requests, read strictly: bounded JSON bodies and known query parameters, or a reason why not."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from app.errors import BadRequest, TooLarge
from app.strict_json import BadJson, parse
from app.validation import validated

MAX_BODY_BYTES = 4 << 20


class StrictRequest(Request):
    """A request whose ``json()`` refuses what ``app.strict_json`` refuses and bodies over the limit."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise TooLarge(
                        f"The body is larger than {MAX_BODY_BYTES} bytes, the most a request may have."
                    )
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                self._json = parse(await self.body())
            except BadJson as error:
                raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
        return self._json


class StrictRoute(APIRoute):
    """``APIRouter(route_class=StrictRoute)``: endpoints get their JSON body through StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        expects_json = self.body_field is not None
        known = [field.alias for field in get_flat_dependant(self.dependant).query_params]

        async def handle_strictly(request: Request) -> Response:
            _refuse_unknown(request, known)
            request = StrictRequest(request.scope, request.receive, request._send)
            if expects_json:
                # Read it here: FastAPI would swallow our reason for refusing a body.
                await _json_body(request)
            return await handle(request)

        return handle_strictly


class LeanRoute(StrictRoute):
    """For what is asked so often that FastAPI's own work on each request shows: it only describes the route.

    Its endpoints are coroutines of ``body``, a model, ``request`` and ``project``, and return a response.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint, field = self.dependant.call, self.body_field
        assert endpoint is not None
        assert field is not None
        model: Any = field.field_info.annotation

        async def handle(request: Request) -> Response:
            _refuse_unknown(request, [])
            request = StrictRequest(request.scope, request.receive, request._send)
            body = validated(model, await _json_body(request))
            return await endpoint(body=body, request=request, project=request.state.project)

        return handle


async def _json_body(request: StrictRequest) -> Any:
    if "json" not in request.headers.get("content-type", "json"):
        raise BadRequest(f"The content type is {request.headers['content-type']!r}; send application/json.")
    return await request.json()


def _refuse_unknown(request: Request, known: list[str]) -> None:
    """Refuse query parameters that the endpoint does not know; ``metadata[key]`` belongs to ``metadata``."""
    if not request.scope["query_string"]:
        return
    for name in request.query_params:
        if name not in known and name.partition("[")[0] not in set(known) & {"metadata"}:
            accepted = f"Accepted here: {', '.join(known)}." if known else "None is accepted here."
            raise BadRequest(
                f"Unknown query parameter: '{name[:80]}'. {accepted}",
                param=name[:80],
                code="unknown_parameter",
            )
