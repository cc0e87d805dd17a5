"""HTTP to addresses that users give, for threads: no redirect, no proxy, no answer without end.

The connection goes to an address that was checked (``trainer.system.addresses``); the TLS certificate is
still checked against the name.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import httpcore

from trainer.system.addresses import Reach

MAX_BODY_BYTES = 4 << 20


class NoAnswer(Exception):
    """Nobody answered, or not in time."""


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


class GuardedHttp:
    """Posts to URLs; for any number of threads, ``connections`` at a time."""

    def __init__(self, reach: Reach, connections: int):
        self._reach = reach
        self._backend = _GuardedBackend(reach)
        self._pool = httpcore.ConnectionPool(
            network_backend=self._backend, max_connections=connections, keepalive_expiry=30
        )

    def post(self, url: str, body: bytes, headers: dict[str, str], seconds: float) -> Answer:
        """The answer to one request, which has ``seconds`` for everything. Raises Refused or NoAnswer."""
        self._reach.check_url(url)
        sent = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "policysplit",
        }
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        self._backend.set_deadline(seconds)
        try:
            with self._pool.stream(
                "POST",
                url,
                headers=list((sent | headers).items()),
                content=body,
                extensions={"timeout": timeouts},
            ) as response:
                received = _read(response)
                pairs = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
                ]
                return Answer(response.status, {name.lower(): value for name, value in pairs}, received)
        except (httpcore.TimeoutException, TimeoutError):
            raise NoAnswer(f"no answer within {seconds:g} s") from None
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            OSError,
        ) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        self._pool.close()


def _read(response: httpcore.Response) -> bytes:
    received = bytearray()
    for chunk in response.iter_stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise NoAnswer(f"the answer is longer than {MAX_BODY_BYTES} bytes")
    return bytes(received)


class _GuardedBackend(httpcore.SyncBackend):
    """Connects to checked addresses alone, and lets no read or write last beyond the thread's deadline."""

    def __init__(self, reach: Reach):
        self._reach = reach
        self._of_thread = threading.local()

    def set_deadline(self, seconds: float) -> None:
        self._of_thread.deadline = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        left = self._of_thread.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the request timed out")
        return left if timeout is None else min(timeout, left)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception | None = None
        for address in self._resolved(host, port):
            try:
                stream = super().connect_tcp(address, port, self.left(timeout), local_address, socket_options)
                return _Stream(stream, self)
            except httpcore.ConnectError as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    def _resolved(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NoAnswer(f"{host} cannot be resolved: {error}") from None
        return self._reach.checked(host, port, found)


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends by the deadline of the thread that waits."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _GuardedBackend):
        self._stream, self._backend = stream, backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._backend.left(timeout))
        return _Stream(stream, self._backend)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
