"""``/metrics``, ``/healthz`` and ``/readyz`` of a worker, at a port of its own.

``/metrics`` wants what that of the API wants, an operator's key, so that one is enough for all. While the
database is away a key that was let in before still is. The other two say nothing but yes or no, and ask for
nothing; they never look at the database, for a worker that waits for it is alive.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy.exc import SQLAlchemyError

from app.core.addresses import is_loopback
from app.core.counting import told
from app.keys.secret import digest_of
from app.keys.service import is_keyless, is_operators

#: A key that is revoked is let in no longer than this.
_KNOWN_SECONDS = 10.0
#: How long one that sends nothing keeps its thread.
_PATIENCE_SECONDS = 10.0
_log = logging.getLogger(__name__)


def _yes() -> bool:
    return True


class FiguresServer:
    """Listens from its making on, which raises OSError where it cannot; answers from :meth:`start` on."""

    def __init__(self, host: str, port: int):
        self._alive, self._ready, self._more = _yes, _yes, bytes
        self._keys = _Keys(open_here=is_loopback(host))
        server_class = _SixServer if ":" in host else ThreadingHTTPServer
        try:
            self._server = server_class((host, port), self._handler())
        except OSError as error:
            told = f"cannot listen on {host}:{port} for metrics: {error.strerror}"
            raise OSError(error.errno, told) from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def start(
        self,
        *,
        alive: Callable[[], bool] = _yes,
        ready: Callable[[], bool] = _yes,
        more: Callable[[], bytes] = bytes,
    ) -> None:
        """Answer, in threads. ``more``: what is read off at each scrape, in Prometheus' format."""
        self._alive, self._ready, self._more = alive, ready, more
        threading.Thread(target=self._server.serve_forever, name="figures", daemon=True).start()

    def close(self) -> None:
        """Answer no more; it was started."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Status and body."""
        match path:
            case "/healthz":
                return (200, b"ok\n") if self._alive() else (503, b"stuck\n")
            case "/readyz":
                return (200, b"ready\n") if self._ready() else (503, b"takes nothing\n")
            case "/metrics":
                status, said = self._keys.look_at(authorization)
                return (status, said.encode()) if status != 200 else (200, told() + self._more())
            case _:
                return 404, b"Here are /metrics, /healthz and /readyz.\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE_SECONDS

            def do_GET(self) -> None:
                try:
                    status, body = server.answer(
                        self.path.partition("?")[0], self.headers.get("authorization", "")
                    )
                except Exception:
                    _log.exception("%s could not be answered", self.path.partition("?")[0])
                    status, body = 500, b"This worker's log has the reason.\n"
                kind = CONTENT_TYPE_PLAIN_0_0_4 if status == 200 else "text/plain; charset=utf-8"
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_: object) -> None:
                pass

            def version_string(self) -> str:
                return "policysplit"

        return Handler


class _SixServer(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class _Keys:
    """Who may read the figures."""

    def __init__(self, *, open_here: bool):
        self._open_here = open_here
        self._known: dict[str, float] = {}

    def look_at(self, authorization: str) -> tuple[int, str]:
        """200, or a status and a sentence."""
        kind, _, secret = authorization.partition(" ")
        digest = digest_of(secret.strip())
        now = time.monotonic()
        if self._known.get(digest, 0.0) > now:
            return 200, ""
        try:
            if kind.lower() == "bearer" and is_operators(digest):
                # One at a time: these are operators' keys, of which there are few.
                self._known = {digest: now + _KNOWN_SECONDS}
                return 200, ""
            if self._open_here and is_keyless():
                return 200, ""
        except SQLAlchemyError:
            if digest in self._known:
                return 200, ""
            return 503, "The database does not answer, so keys cannot be checked.\n"
        self._known.pop(digest, None)
        return (
            401,
            "An operator's key is required: 'Authorization: Bearer sk-…' (policysplit keys create "
            "--operator).\n",
        )
