"""Requests counted and timed by route, of the API and of inference workers alike."""

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.counting import COUNTED, SECONDS

_OTHER = "other"
_REQUESTS = Counter(
    "policysplit_requests",
    "Requests by method, route and status; the route 'other' stands for unknown paths",
    ["method", "route", "status"],
    registry=COUNTED,
)
_ANSWER_SECONDS = Histogram(
    "policysplit_answer_seconds",
    "Seconds until the answer began",
    ["method", "route"],
    buckets=SECONDS,
    registry=COUNTED,
)


class CountRequests:
    """ASGI middleware: counts each request once its answer begins, whatever the answer is."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def count_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - began
                # A path that no route has could be anything; so could a method.
                route = getattr(scope.get("route"), "path", None)
                method, route = (scope["method"], route) if route else (_OTHER, _OTHER)
                _REQUESTS.labels(method, route, message["status"]).inc()
                _ANSWER_SECONDS.labels(method, route).observe(seconds)
            await send(message)

        await self._app(scope, receive, count_and_send)
