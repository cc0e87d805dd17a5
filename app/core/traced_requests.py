"""A span around each request, of the API and of inference workers alike."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import tracing

#: What is asked again and again by machines, and what a browser's page is made of.
_QUIET = re.compile(r"/(?:healthz|readyz|metrics|static/.*|favicon.*)?")


class TraceRequests:
    """ASGI middleware, where :func:`tracing.is_on`. A trace that the client has begun goes on in it."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not tracing.is_on() or _QUIET.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        method = scope["method"]
        parent = given.decode("latin-1") or None
        with tracing.span(method, "server", parent=parent) as span:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", None)
                    state = scope.get("state", {})
                    span.call(f"{method} {route}" if route else method)
                    span.set(
                        {
                            "http.request.method": method,
                            "http.route": route,
                            "http.response.status_code": message["status"],
                            "policysplit.request.id": state.get("request_id"),
                            "policysplit.project.id": state.get("project"),
                        }
                    )
                    if message["status"] >= 500:
                        span.failed(str(message["status"]))
                await send(message)

            await self._app(scope, receive, send_and_note)
