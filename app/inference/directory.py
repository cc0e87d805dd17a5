"""Models and inference workers as one API process knows them: at most seconds old, and no query a request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from app.core.db import read_session
from app.inference import repository
from app.inference.repository import Worker
from app.models.service import Found, find_model

#: What was looked up is taken as it is for so long,
FRESH_SECONDS = 0.5
#: and so long while it is being looked up again.
USABLE_SECONDS = 2.0
_MAX_ENTRIES = 2048

T = TypeVar("T")


class _Kept(Generic[T]):
    """One thing that was looked up, and when; it is looked up again before it is old."""

    def __init__(self, look_up: Callable[[], Awaitable[T]]):
        self._look_up = look_up
        self._value: T | None = None
        self._since = float("-inf")
        self._again: asyncio.Task[None] | None = None

    async def value(self) -> T:
        age = time.monotonic() - self._since
        if self._value is not None and age <= FRESH_SECONDS:
            return self._value
        # One look-up for all that ask meanwhile.
        if self._again is None or self._again.done():
            self._again = asyncio.create_task(self._renew())
            self._again.add_done_callback(_retrieve)
        if self._value is None or age > USABLE_SECONDS:
            await asyncio.shield(self._again)
            assert self._value is not None
        return self._value

    async def _renew(self) -> None:
        began = time.monotonic()
        self._value = await self._look_up()
        self._since = began


def _retrieve(task: "asyncio.Task[None]") -> None:
    """A failed look-up behind the scenes: the value grows old, and the next one in front says why."""
    if not task.cancelled():
        task.exception()


class Directory:
    """Used on the event loop alone."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], _Kept[Found]] = {}
        self._workers = _Kept(lambda: run_in_threadpool(_live_workers))
        self._gone: dict[str, float] = {}

    async def model(self, project_id: str, name: str) -> Found:
        """The model called ``name``. Raises what :func:`app.models.service.find_model` raises."""
        kept = self._models.get((project_id, name))
        if kept is not None:
            return await kept.value()
        kept = _Kept(lambda: run_in_threadpool(_find, project_id, name))
        found = await kept.value()
        if len(self._models) >= _MAX_ENTRIES:
            self._models.clear()
        self._models[project_id, name] = kept  # only what there is: names that are asked in vain are not kept
        return found

    async def workers(self) -> list[Worker]:
        """The inference workers that live, without those that could not be reached just now."""
        workers = await self._workers.value()
        if not workers:
            self._workers = _Kept(lambda: run_in_threadpool(_live_workers))
            workers = await self._workers.value()
        now = time.monotonic()
        return [worker for worker in workers if self._gone.get(worker.id, 0.0) < now]

    def drop(self, worker: Worker) -> None:
        """It could not be reached: pass it over until what the database says of it is news."""
        self._gone[worker.id] = time.monotonic() + USABLE_SECONDS
        self._workers = _Kept(lambda: run_in_threadpool(_live_workers))


def _find(project_id: str, name: str) -> Found:
    with read_session() as session:
        return find_model(session, project_id, name)


def _live_workers() -> list[Worker]:
    with read_session() as session:
        return repository.live_workers(session)
