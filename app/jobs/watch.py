"""Waiting for news of jobs: one query per tick, however many streams of this process wait."""

import asyncio
import contextlib
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import read_session
from app.core.tables import Job, JobEvent

_TICK_SECONDS = 0.3
_IDS_A_QUERY = 500
_log = logging.getLogger("app")


class Mark(NamedTuple):
    """Where a job is; another one means that there is something to read. Metrics come with an event."""

    status: str
    last_event: int | None


class JobWatch:
    """The streams of one API process that wait; used on its event loop alone."""

    def __init__(self) -> None:
        #: Looks at the database that go on, and who wants the same waits for them (``app.jobs.stream``).
        self.asked: dict[tuple[str, int, Mark | None], asyncio.Task[Any]] = {}
        self._waiting: dict[str, set[_Waiter]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def changed(self, job_id: str, seen: Mark | None, seconds: float) -> Mark | None:
        """The job's mark as soon as it is not ``seen``; after ``seconds`` without a change ``seen`` itself.

        Who reads after this returned, and waits with what it returned, misses nothing.
        """
        waiter = _Waiter(seen)
        self._waiting.setdefault(job_id, set()).add(waiter)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick())
        try:
            return await asyncio.wait_for(waiter.found, seconds)
        except TimeoutError:
            return seen
        finally:
            others = self._waiting[job_id]
            others.discard(waiter)
            if not others:
                del self._waiting[job_id]

    async def close(self) -> None:
        """Stop, once the looks that go on have given back their connections; who waits is not told."""
        self._closed.set()
        looks = [*self.asked.values(), *([self._ticker] if self._ticker else [])]
        await asyncio.gather(*looks, return_exceptions=True)

    async def _tick(self) -> None:
        while self._waiting and not self._closed.is_set():
            try:
                marks = await run_in_threadpool(_marks, list(self._waiting))
            except SQLAlchemyError as error:
                _log.warning("streams are waiting, as the database failed: %s", error)
            else:
                for job_id, waiters in self._waiting.items():
                    for waiter in waiters:
                        waiter.tell(marks.get(job_id))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _TICK_SECONDS)


class _Waiter:
    def __init__(self, seen: Mark | None):
        self._seen = seen
        self.found: asyncio.Future[Mark | None] = asyncio.get_running_loop().create_future()

    def tell(self, mark: Mark | None) -> None:
        if mark != self._seen and not self.found.done():
            self.found.set_result(mark)


def _marks(job_ids: Collection[str]) -> dict[str, Mark]:
    # The end of an index, for each job by itself: a job may have a hundred thousand events.
    last = select(func.max(JobEvent.sequence)).where(JobEvent.job_id == Job.id).scalar_subquery()
    ids, found = list(job_ids), {}
    with read_session() as session:
        for start in range(0, len(ids), _IDS_A_QUERY):
            some = ids[start : start + _IDS_A_QUERY]
            rows = session.execute(select(Job.id, Job.status, last).where(Job.id.in_(some)))
            found |= {row[0]: Mark(row[1], row[2]) for row in rows}
    return found
