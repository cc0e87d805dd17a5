"""The loaded engines: started on first use, kept within a memory budget, replaced when they crash."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from worker.gpus import Slots
from worker.inference import figures
from worker.inference.adapters import Adapters
from worker.inference.child import EngineProcess
from worker.inference.engines import Engine, Host, Target
from worker.inference.errors import EngineUnavailable
from worker.inference.places import Places
from worker.inference.rendering import Rendering

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0
#: A shorter rest of a back-off is waited for; past it the client is told when to come back.
PATIENCE_SECONDS = 2.0


@dataclass(eq=False)
class Loaded:
    """An engine's place in the pool: reserved memory, its process once it is up, and who uses it."""

    host: Host
    size: int
    turn: asyncio.Semaphore | contextlib.nullcontext[None]
    gpus: tuple[int, ...] = ()
    """Its places among those of the pool, once its memory is reserved."""
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)
    process: EngineProcess | None = None
    adapters: Adapters | None = None
    rendering: Rendering | None = None
    starting: asyncio.Task[None] | None = None
    answered: bool = False

    @property
    def child(self) -> EngineProcess:
        """The engine; only while the entry is in use, when it has been started."""
        assert self.process is not None
        return self.process

    @property
    def folders(self) -> list[Path]:
        """Of the models that it answers for."""
        adapters = [] if self.adapters is None else self.adapters.loaded
        return [self.host.folder, *(Target(self.host, adapter).folder for adapter in adapters)]


@dataclass
class _Failures:
    count: int = 0
    not_before: float = 0.0
    reason: str = ""


class EnginePool:
    """Engines by what they were started on. All of it runs on one event loop.

    ``start_seconds`` limits how long a request waits for a cold start and how long a start may take. Each
    engine sees as many of ``gpus`` as it wants, those that the fewest others see.
    ``on_change`` is called when the set of loaded folders changed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        memory_bytes: int,
        start_seconds: float,
        gpus: Slots | None = None,
        on_change: Callable[[], None] = lambda: None,
    ):
        self.engine = engine
        self._memory_bytes = memory_bytes
        self._start_seconds = start_seconds
        self._gpus = gpus or Slots([()])
        self._on_change = on_change
        self._places = Places(start_seconds)
        self._entries: dict[Host, Loaded] = {}
        self._targets: dict[Path, Target] = {}
        self._reserved: set[Loaded] = set()
        self._failures: dict[Host, _Failures] = {}
        self._admission = asyncio.Lock()
        self._freed = asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> list[Loaded]:
        """The engines that are up."""
        return [entry for entry in self._entries.values() if entry.process is not None]

    @property
    def folders(self) -> list[str]:
        """Places of the models that are answered for without a start."""
        return sorted({self._places.name_of(folder) for entry in self.loaded for folder in entry.folders})

    def name_of(self, entry: Loaded) -> str:
        """The place of the model that an engine was started on."""
        return self._places.name_of(entry.host.folder)

    @property
    def active(self) -> int:
        """Requests that are with an engine, or wait for one."""
        return sum(entry.users for entry in self._entries.values())

    @contextlib.asynccontextmanager
    async def use(self, place: str) -> AsyncIterator[tuple[Loaded, Target]]:
        """The engine that serves the model at ``place``, started if need be, kept at least to the end of the
        block.

        Raises EngineUnavailable when it is not up within the limit, RequestRefused when there is no model,
        and RendersDifferently when its prompts are not those of training.
        """
        try:
            async with self._places.use(place) as folder, self._use(folder) as found:
                yield found
        finally:
            entries = self._entries.values()
            self._places.release({folder for entry in entries for folder in entry.folders})

    @contextlib.asynccontextmanager
    async def _use(self, folder: Path) -> AsyncIterator[tuple[Loaded, Target]]:
        target = await self._target(folder)
        entry = self._entries.get(target.host) or await self._enter(target.host)
        entry.users += 1
        try:
            await self._wait_for(entry)
            assert entry.rendering is not None
            if target.adapter is None:
                await entry.rendering.check(folder, target)
                yield entry, target
            else:
                assert entry.adapters is not None
                async with entry.adapters.use(target.adapter) as new:
                    if new:
                        self._on_change()
                    await entry.rendering.check(folder, target)
                    yield entry, target
        finally:
            entry.users -= 1
            entry.last_used = time.monotonic()
            self._freed.set()

    async def _target(self, folder: Path) -> Target:
        """Where the checkpoint is served; it is read anew only when nothing is loaded for it."""
        known = self._targets.get(folder)
        if known is None or known.host not in self._entries:
            known = self._targets[folder] = await asyncio.to_thread(self.engine.target, folder)
        # A base that has adapters on it answers for itself, too.
        adapted = Host(folder, adapters=True)
        return Target(adapted) if known.adapter is None and adapted in self._entries else known

    async def restart(self, entry: Loaded) -> None:
        """End an engine that does not answer any more; the next request starts another."""
        if entry.process is not None:
            log.warning("the engine of %s does not answer; ending it", entry.host.folder)
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

    async def _enter(self, host: Host) -> Loaded:
        size = await asyncio.to_thread(self.engine.memory_bytes, host)
        if size > self._memory_bytes:
            raise EngineUnavailable(
                f"the model takes {size} bytes, more than this inference worker's budget of "
                f"{self._memory_bytes} (POLICYSPLIT_ENGINE_MEMORY_BYTES)",
                code="insufficient_memory",
            )
        await self._sit_out_backoff(host)
        # Another request may have entered the host while this one looked at the disk.
        if (entry := self._entries.get(host)) is None:
            turn = asyncio.Semaphore(1) if self.engine.serial else contextlib.nullcontext()
            entry = self._entries[host] = Loaded(host, size, turn)
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
                f"the model was still not loaded after {self._start_seconds:g} s", retry_after=5.0
            ) from None

    async def _start(self, entry: Loaded) -> None:
        deadline = time.monotonic() + self._start_seconds
        began = time.monotonic()
        try:
            await self._make_room(entry, deadline)
            log.info("loading %s", entry.host.folder)
            gpus = self._gpus.environment(*entry.gpus)
            process = await EngineProcess.spawn(self.engine, entry.host, gpus)
            try:
                await process.wait_until_ready(deadline - time.monotonic())
            except BaseException:
                await process.stop()
                raise
        except BaseException as error:
            figures.STARTS.labels("failed").inc()
            self._leave(entry)
            if isinstance(error, EngineUnavailable):
                # What the engine says of a folder that went meanwhile is of no use to anybody.
                await asyncio.to_thread(self.engine.target, entry.host.folder)
                if error.retry_after is None:
                    error.retry_after = self._count_failure(entry.host, str(error))
                    log.error("%s: %s", entry.host.folder, error)
            raise
        log.info("loaded %s in %.1f s", entry.host.folder, time.monotonic() - began)
        figures.STARTS.labels("ready").inc()
        figures.START_SECONDS.observe(time.monotonic() - began)
        entry.process = process
        entry.rendering = Rendering(self.engine, process)
        if entry.host.adapters:
            entry.adapters = Adapters(self.engine, process)
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
                    idle = [other for other in self.loaded if other.users == 0]
                    if not idle:
                        await self._freed.wait()
                        continue
                    await self._evict(min(idle, key=lambda other: other.last_used))
                self._reserved.add(entry)
                entry.gpus = self._gpus.take_anyway(self.engine.gpus(entry.host))
        except TimeoutError:
            raise EngineUnavailable(
                "all loaded models are in use, and the memory budget has no room for another",
                retry_after=5.0,
            ) from None

    async def _evict(self, entry: Loaded) -> None:
        log.info("unloading %s", entry.host.folder)
        figures.EVICTIONS.inc()
        self._entries.pop(entry.host, None)
        await entry.child.stop()
        self._leave(entry)
        self._on_change()

    async def _watch(self, entry: Loaded, process: EngineProcess) -> None:
        await process.ended.wait()
        if self._entries.get(entry.host) is not entry:
            return
        figures.CRASHES.inc()
        if entry.answered:
            self._failures.pop(entry.host, None)
        self._leave(entry)
        self._count_failure(entry.host, f"the {self.engine.name} server ended: {process.cause()}")
        log.error("the engine of %s ended: %s", entry.host.folder, process.cause())
        self._on_change()

    def _leave(self, entry: Loaded) -> None:
        if self._entries.get(entry.host) is entry:
            del self._entries[entry.host]
        if entry in self._reserved:
            self._reserved.remove(entry)
            self._gpus.give_back(*entry.gpus)
        self._freed.set()

    def _count_failure(self, host: Host, reason: str) -> float:
        """Note a failed start or a crash; the seconds until the next start is tried."""
        failures = self._failures.setdefault(host, _Failures())
        failures.count += 1
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failures.count - 1, 10))
        failures.not_before, failures.reason = time.monotonic() + pause, reason
        return pause

    async def _sit_out_backoff(self, host: Host) -> None:
        failures = self._failures.get(host)
        rest = failures.not_before - time.monotonic() if failures else 0.0
        if failures and rest > PATIENCE_SECONDS:
            raise EngineUnavailable(failures.reason, retry_after=rest)
        if rest > 0:
            await asyncio.sleep(rest)


def _retrieve(start: asyncio.Task[None]) -> None:
    """Take note of a failed start that every request stopped waiting for."""
    if not start.cancelled():
        start.exception()
