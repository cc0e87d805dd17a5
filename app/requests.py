"""Request bodies: bounded, strict JSON, refused with a reason."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.errors import BadRequest, TooLarge
from app.strict_json import BadJson, parse

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

        async def handle_strictly(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive, request._send)
            if expects_json:
                # Read it here: FastAPI would swallow our reason for refusing a body.
                if "json" not in request.headers.get("content-type", "json"):
                    raise BadRequest(
                        f"The content type is {request.headers['content-type']!r}; send application/json."
                    )
                await request.json()
            return await handle(request)

        return handle_strictly
