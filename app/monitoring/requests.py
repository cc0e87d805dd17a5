"""Requests counted and timed by route: those of this process, or of all that share the folder which
``PROMETHEUS_MULTIPROC_DIR`` names."""

import os
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: A row is found within milliseconds, a checkpoint's first token within seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_OTHER = "other"
_OWN = CollectorRegistry()
_REQUESTS = Counter(
    "policysplit_requests",
    "Requests by method, route and status; the route 'other' is that of no route",
    ["method", "route", "status"],
    registry=_OWN,
)
_ANSWER_SECONDS = Histogram(
    "policysplit_answer_seconds",
    "Seconds until an answer began",
    ["method", "route"],
    buckets=_SECONDS,
    registry=_OWN,
)


def counted() -> CollectorRegistry:
    """What was counted until now."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return _OWN
    shared = CollectorRegistry()
    MultiProcessCollector(shared)
    return shared


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
