"""The loaded engines: started on first use, kept within a memory budget, replaced when they crash."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from worker.inference.child import EngineProcess
from worker.inference.engines import Engine
from worker.inference.errors import EngineUnavailable, RequestRefused

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0
#: A shorter rest of a back-off is waited for; past it the client is told when to come back.
PATIENCE_SECONDS = 2.0


@dataclass(eq=False)
class Loaded:
    """A model folder's place in the pool: reserved memory, its engine once it is up, and who uses it."""

    folder: Path
    size: int
    turn: asyncio.Semaphore | contextlib.nullcontext[None]
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)
    process: EngineProcess | None = None
    starting: asyncio.Task[None] | None = None
    answered: bool = False

    @property
    def child(self) -> EngineProcess:
        """The engine; only while the entry is in use, when it has been started."""
        assert self.process is not None
        return self.process


@dataclass
class _Failures:
    count: int = 0
    not_before: float = 0.0
    reason: str = ""


class EnginePool:
    """Engines by model folder. All of it runs on one event loop.

    ``start_seconds`` limits how long a request waits for a cold start and how long a start may take.
    ``on_change`` is called when the set of loaded folders changed.
    """

    def __init__(
        self,
        engine: Engine,
        client: httpx.AsyncClient,
        *,
        memory_bytes: int,
        start_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ):
        self._engine = engine
        self._client = client
        self._memory_bytes = memory_bytes
        self._start_seconds = start_seconds
        self._on_change = on_change
        self._entries: dict[Path, Loaded] = {}
        self._reserved: set[Loaded] = set()
        self._failures: dict[Path, _Failures] = {}
        self._admission = asyncio.Lock()
        self._freed = asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> dict[Path, Loaded]:
        """The engines that are up."""
        return {folder: entry for folder, entry in self._entries.items() if entry.process is not None}

    @contextlib.asynccontextmanager
    async def use(self, folder: Path) -> AsyncIterator[Loaded]:
        """The engine of ``folder``, started if need be and kept at least to the end of the block.

        Raises EngineUnavailable when it is not up within the limit, RequestRefused when there is no model.
        """
        entry = self._entries.get(folder) or await self._enter(folder)
        entry.users += 1
        try:
            await self._wait_for(entry)
            yield entry
        finally:
            entry.users -= 1
            entry.last_used = time.monotonic()
            self._freed.set()

    async def restart(self, entry: Loaded) -> None:
        """End an engine that does not answer any more; the next request starts another."""
        if entry.process is not None:
            log.warning("the engine of %s does not answer and is ended", entry.folder)
            await entry.process.stop()

    async def close(self) -> None:
        """End every engine."""
        entries = list(self._reserved | set(self._entries.values()))
        self._entries.clear()  # so that no watcher takes this for a crash
        starts = [entry.starting for entry in entries if entry.starting is not None]
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await asyncio.gather(*(entry.process.stop() for entry in entries if entry.process is not None))
        await asyncio.gather(*self._watchers)

    async def _enter(self, folder: Path) -> Loaded:
        size = await asyncio.to_thread(_weights_bytes, folder)
        if size > self._memory_bytes:
            raise EngineUnavailable(
                f"the model takes {size} bytes, more than this inference worker's budget of "
                f"{self._memory_bytes} (POLICYSPLIT_ENGINE_MEMORY_BYTES)",
                code="insufficient_memory",
            )
        await self._sit_out_backoff(folder)
        # Another request may have entered the folder while this one looked at the disk.
        if (entry := self._entries.get(folder)) is None:
            turn = asyncio.Semaphore(1) if self._engine.serial else contextlib.nullcontext()
            entry = self._entries[folder] = Loaded(folder, size, turn)
            entry.starting = asyncio.create_task(self._start(entry))
            entry.starting.add_done_callback(_retrieve)
        return entry

    async def _wait_for(self, entry: Loaded) -> None:
        assert entry.starting is not None
        try:
            # The start goes on when this request is cancelled: others may wait for it.
            await asyncio.wait_for(asyncio.shield(entry.starting), self._start_seconds)
        except TimeoutError:
            raise EngineUnavailable(
                f"the model is not loaded yet after {self._start_seconds:g} s", retry_after=5.0
            ) from None

    async def _start(self, entry: Loaded) -> None:
        deadline = time.monotonic() + self._start_seconds
        began = time.monotonic()
        try:
            await self._make_room(entry, deadline)
            process = await EngineProcess.spawn(self._engine, entry.folder)
            try:
                await process.wait_until_ready(self._client, deadline - time.monotonic())
            except BaseException:
                await process.stop()
                raise
        except BaseException as error:
            self._leave(entry)
            if isinstance(error, EngineUnavailable) and error.retry_after is None:
                error.retry_after = self._count_failure(entry.folder, str(error))
                log.error("%s: %s", entry.folder, error)
            raise
        log.info("loaded %s in %.1f s", entry.folder, time.monotonic() - began)
        entry.process = process
        entry.last_used = time.monotonic()
        watcher = asyncio.create_task(self._watch(entry, process))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        self._on_change()

    async def _make_room(self, entry: Loaded, deadline: float) -> None:
        """Reserve the entry's memory, evicting the least recently used idle engines for it."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._admission:
                while sum(other.size for other in self._reserved) + entry.size > self._memory_bytes:
                    self._freed.clear()
                    idle = [other for other in self.loaded.values() if other.users == 0]
                    if not idle:
                        await self._freed.wait()
                        continue
                    await self._evict(min(idle, key=lambda other: other.last_used))
                self._reserved.add(entry)
        except TimeoutError:
            raise EngineUnavailable(
                "every loaded model is in use and the memory budget leaves no room for another",
                retry_after=5.0,
            ) from None

    async def _evict(self, entry: Loaded) -> None:
        log.info("unloading %s", entry.folder)
        self._entries.pop(entry.folder, None)
        await entry.child.stop()
        self._leave(entry)
        self._on_change()

    async def _watch(self, entry: Loaded, process: EngineProcess) -> None:
        await process.ended.wait()
        if self._entries.get(entry.folder) is not entry:
            return
        if entry.answered:
            self._failures.pop(entry.folder, None)
        self._leave(entry)
        self._count_failure(entry.folder, f"the {self._engine.name} server ended: {process.cause()}")
        log.error("the engine of %s ended: %s", entry.folder, process.cause())
        self._on_change()

    def _leave(self, entry: Loaded) -> None:
        if self._entries.get(entry.folder) is entry:
            del self._entries[entry.folder]
        self._reserved.discard(entry)
        self._freed.set()

    def _count_failure(self, folder: Path, reason: str) -> float:
        """Note a failed start or a crash; the seconds until the next start is tried."""
        failures = self._failures.setdefault(folder, _Failures())
        failures.count += 1
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures.count - 1, 10))
        failures.not_before, failures.reason = time.monotonic() + pause, reason
        return pause

    async def _sit_out_backoff(self, folder: Path) -> None:
        failures = self._failures.get(folder)
        rest = failures.not_before - time.monotonic() if failures else 0.0
        if failures and rest > PATIENCE_SECONDS:
            raise EngineUnavailable(failures.reason, retry_after=rest)
        if rest > 0:
            await asyncio.sleep(rest)


def _retrieve(start: asyncio.Task[None]) -> None:
    """Take note of a failed start that every request stopped waiting for."""
    if not start.cancelled():
        start.exception()


def _weights_bytes(folder: Path) -> int:
    """Size of the folder's weights: what the model takes once loaded, near enough."""
    if not (folder / "config.json").is_file():
        raise RequestRefused(
            f"there is no model in {folder} on the inference worker's host", code="model_missing"
        )
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        # Other formats are pickles: loading one would run what it contains.
        raise RequestRefused(f"{folder} has no .safetensors weights", code="model_missing")
    return sum(file.stat().st_size for file in weights)
