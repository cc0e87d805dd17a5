"""HTTP to addresses that a job may reach: no private network, no redirect, no answer without end.

A host's name is resolved once, every address is checked, and the connection goes to a checked address, so
that a name which resolves differently the next time (DNS rebinding) gains nothing. The TLS certificate is
still checked against the name. Nothing is read from proxy settings, and redirects are not followed.
"""

import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpcore

from trainer.graders.addresses import Address, is_public

MAX_BODY_BYTES = 4 << 20
_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """The URL leads where a grader may not go."""


class NoAnswer(Exception):
    """Nobody answered, or not in time."""


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


def check_url(url: str, allowed: frozenset[str] = frozenset()) -> None:
    """Raise Refused for a URL that can be told to be no good without asking a name server."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refused(f"{url[:200]!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{url[:200]!r} should be a URL that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL has a user name or password in it, and jobs are no place for secrets")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not _is_allowed(host, port or _PORTS[parts.scheme], allowed):
        _check_address(host, address)


def resolve(host: str, port: int, allowed: frozenset[str]) -> list[str]:
    """The addresses of ``host``, all of them checked. Raises Refused or NoAnswer."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"{host} cannot be resolved: {error}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    if not _is_allowed(host, port, allowed):
        for address in addresses:
            _check_address(host, address)
    return addresses


def _is_allowed(host: str, port: int, allowed: frozenset[str]) -> bool:
    host = host.lower()
    return host in allowed or f"{host}:{port}" in allowed or f"[{host}]:{port}" in allowed


def _check_address(host: str, address: str | Address) -> None:
    if not is_public(address):
        raise Refused(
            f"{host} has an address that is not a public one; the operator may allow the host in "
            "POLICYSPLIT_GRADER_ALLOWED_HOSTS"
        )


class GuardedHttp:
    """Posts to URLs; for any number of threads, ``connections`` at a time."""

    def __init__(self, allowed: frozenset[str], connections: int):
        self._allowed = allowed
        self._backend = _GuardedBackend(allowed)
        self._pool = httpcore.ConnectionPool(
            network_backend=self._backend, max_connections=connections, keepalive_expiry=30
        )

    def post(self, url: str, body: bytes, headers: dict[str, str], seconds: float) -> Answer:
        """The answer to one request, which has ``seconds`` for everything. Raises Refused or NoAnswer."""
        check_url(url, self._allowed)
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

    def __init__(self, allowed: frozenset[str]):
        self._allowed = allowed
        self._of_thread = threading.local()

    def set_deadline(self, seconds: float) -> None:
        self._of_thread.deadline = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        left = self._of_thread.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the request's time is up")
        return left if timeout is None else min(timeout, left)

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        last: Exception | None = None
        for address in resolve(host, port, self._allowed):
            try:
                stream = super().connect_tcp(address, port, self.left(timeout), local_address, socket_options)
                return _Stream(stream, self)
            except httpcore.ConnectError as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends by the deadline of the thread that waits."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _GuardedBackend):
        self._stream, self._backend = stream, backend

    def read(self, max_bytes, timeout=None):
        return self._stream.read(max_bytes, self._backend.left(timeout))

    def write(self, buffer, timeout=None):
        self._stream.write(buffer, self._backend.left(timeout))

    def close(self):
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        stream = self._stream.start_tls(ssl_context, server_hostname, self._backend.left(timeout))
        return _Stream(stream, self._backend)

    def get_extra_info(self, info):
        return self._stream.get_extra_info(info)
