"""What every response carries: ``x-request-id``, ``openai-processing-ms``, and what keeps browsers from
misusing it; and the last resort for errors.

Plain ASGI, so that streamed responses pass through unbuffered.
"""

import json
import logging
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.error_handlers import error_response, unexpected
from app.core.errors import AccessEnded, BadRequest
from app.core.ids import new_request_id
from app.core.pages import CLOSED_POLICY, HEADERS
from trainer.system import logs

_log = logging.getLogger("app")
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestContext:
    """Names each request, times it, and answers exceptions that nothing below handled."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        with logs.about(request=request_id):
            await self._answer(scope, receive, send, request_id, started)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, started: float
    ) -> None:
        answering = events = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answering, events
            if message["type"] == "http.response.start":
                answering = True
                headers = MutableHeaders(scope=message)
                headers.raw.extend(HEADERS)
                media_type = headers.get("content-type", "")
                events = media_type.startswith("text/event-stream")
                if media_type.startswith("text/html"):
                    headers.setdefault("content-security-policy", CLOSED_POLICY)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
            await send(message)

        try:
            if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                # No id or name has it, and PostgreSQL takes it for an error of ours.
                bad = BadRequest("The URL contains the character U+0000; leave it out.")
                await error_response(bad)(scope, receive, send_with_headers)
                return
            await self._app(scope, receive, send_with_headers)
        except AccessEnded as error:
            _log.info("request %s: %s", request_id, error)
            if not answering:
                await error_response(error)(scope, receive, send_with_headers)
            elif events:
                last = b"data: " + json.dumps(error.body()).encode() + b"\n\n"
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except ClientDisconnect:
            _log.info("request %s: the client went away", request_id)
        except Exception as error:
            if answering:  # too late for another status: the server cuts the connection
                raise
            await unexpected(error, request_id)(scope, receive, send_with_headers)


def _request_id(scope: Scope) -> str:
    """The client's own id where it is one that a log can hold, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE.fullmatch(text := value.decode("latin-1")):
            return text
    return new_request_id()
