"""Requests at a fixed pace, whatever the answers take: the latency that users see at a given load.

Latency counts from when a request was due, so that a server that stops for a second shows it (no coordinated
omission).
"""

import asyncio
import time
from urllib.parse import urlsplit


class _Connection:
    """One keep-alive connection, a request at a time."""

    def __init__(self, url: str, headers: dict[str, str]):
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._request = f"GET {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n{lines}\r\n".encode()

    async def __aenter__(self) -> "_Connection":
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._writer.close()

    async def get(self) -> None:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"not answered with success: {head[:80]!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length))


async def requests_per_second(
    url: str, headers: dict[str, str], *, seconds: float, connections: int
) -> float:
    """Closed loop: each connection sends its next request when the last one is answered."""
    began = time.perf_counter()

    async def one() -> int:
        answered = 0
        async with _Connection(url, headers) as connection:
            while time.perf_counter() - began < seconds:
                await connection.get()
                answered += 1
        return answered

    answered = await asyncio.gather(*(one() for _ in range(connections)))
    return sum(answered) / (time.perf_counter() - began)


async def latencies(
    url: str, headers: dict[str, str], *, rate: float, seconds: float, connections: int
) -> list[float]:
    """Sorted seconds from when each request was due to its answer, at ``rate`` requests a second."""
    total = int(rate * seconds)
    numbers = iter(range(total))
    began = time.perf_counter() + 0.1
    taken: list[float] = []

    async def one() -> None:
        async with _Connection(url, headers) as connection:
            for number in numbers:
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await connection.get()
                taken.append(time.perf_counter() - due)

    await asyncio.gather(*(one() for _ in range(connections)))
    return sorted(taken)
