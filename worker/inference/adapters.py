"""The adapters of one engine process: loaded on first use, the least recently used one dropped."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from worker.inference.child import EngineProcess
from worker.inference.engines import Call, Engine
from worker.inference.engines.refusals import detail_of
from worker.inference.errors import EngineUnavailable, RequestRefused

log = logging.getLogger(__name__)

LOAD_SECONDS = 120.0
#: Beyond so many, those that nobody uses go. As many as the engines are told to keep in memory.
KEPT = 32


@dataclass(eq=False)
class _Adapter:
    loading: asyncio.Task[None]
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)


class Adapters:
    """Of one process; they go with it."""

    def __init__(self, engine: Engine, process: EngineProcess):
        self._engine = engine
        self._process = process
        self._adapters: dict[Path, _Adapter] = {}

    @property
    def loaded(self) -> list[Path]:
        return [path for path, adapter in self._adapters.items() if _is_up(adapter)]

    @contextlib.asynccontextmanager
    async def use(self, path: Path) -> AsyncIterator[bool]:
        """Have the adapter loaded to the end of the block; gives whether it was loaded for this one.

        Raises an InferenceError when the engine does not take it.
        """
        entry = self._adapters.get(path)
        new = entry is None
        if entry is None:
            entry = self._adapters[path] = _Adapter(asyncio.create_task(self._load(path)))
            entry.loading.add_done_callback(_retrieve)
        entry.users += 1
        try:
            # Others may wait for the load: it goes on when this request is cancelled.
            await asyncio.shield(entry.loading)
            yield new
        finally:
            entry.users -= 1
            entry.last_used = time.monotonic()

    async def _load(self, path: Path) -> None:
        began = time.monotonic()
        try:
            await self._make_room()
            await self._post(self._engine.load_adapter(path))
        except BaseException:
            self._adapters.pop(path, None)
            raise
        log.info("loaded the adapter %s in %.2f s", path, time.monotonic() - began)

    async def _make_room(self) -> None:
        while len(self._adapters) > KEPT:
            idle = [(a.last_used, path) for path, a in self._adapters.items() if not a.users and _is_up(a)]
            if not idle:
                return
            _, oldest = min(idle)
            del self._adapters[oldest]
            await self._post(self._engine.unload_adapter(oldest))

    async def _post(self, call: Call) -> None:
        try:
            async with self._process.client.post(
                call.path,
                json=call.body,
                timeout=aiohttp.ClientTimeout(LOAD_SECONDS),
            ) as answer:
                if answer.status != 200:
                    said = detail_of(await answer.read())
                    raise RequestRefused(f"The engine rejected the adapter: {said}", code="model_missing")
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise EngineUnavailable("the engine ended while loading an adapter", retry_after=1.0) from error


def _retrieve(loading: "asyncio.Task[None]") -> None:
    """Take note of a failed load that every request stopped waiting for."""
    if not loading.cancelled():
        loading.exception()


def _is_up(adapter: _Adapter) -> bool:
    return adapter.loading.done() and not adapter.loading.cancelled() and adapter.loading.exception() is None
