"""Concurrent chat streams, timed: to the first token of each, and tokens a second of all."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from benchmarks.load.endpoint import Endpoint


@dataclass
class Timings:
    """Of one round."""

    first_token: list[float] = field(default_factory=list)
    """Seconds from the request to its first token, by stream."""
    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


async def round_of(
    session: aiohttp.ClientSession, endpoint: Endpoint, bodies: Sequence[dict[str, Any]], at_once: int
) -> Timings:
    """Send ``bodies``, ``at_once`` of them at a time, and read each stream to its end."""
    timings, waiting = Timings(), list(reversed(bodies))

    async def stream() -> None:
        while waiting:
            first, tokens = await _one(session, endpoint, waiting.pop())
            timings.first_token.append(first)
            timings.tokens += tokens

    began = time.perf_counter()
    await asyncio.gather(*(stream() for _ in range(at_once)))
    timings.seconds = time.perf_counter() - began
    return timings


async def _one(session: aiohttp.ClientSession, endpoint: Endpoint, body: dict[str, Any]) -> tuple[float, int]:
    began = time.perf_counter()
    first, last = 0.0, b""
    headers = {"content-type": "application/json"}
    async with session.post(
        endpoint.url, data=to_json({**body, **endpoint.body}), headers=headers
    ) as response:
        if response.status != 200:
            raise RuntimeError(f"{endpoint.url} answered {response.status}: {await response.text()}")
        buffered = b""
        async for chunk in response.content.iter_any():
            # The first chunk of a chat says who speaks; the second is the first with a token.
            if not first and chunk.count(b"data: ") + buffered.count(b"data: ") > 1:
                first = time.perf_counter() - began
            if not first:
                buffered += chunk
            last = (last + chunk)[-4096:]
    usages = [line for line in last.split(b"\n") if b'"usage":{' in line]
    return first, from_json(usages[-1].removeprefix(b"data: "))["usage"]["completion_tokens"]
