"""A job's events as server-sent events, until the job is over."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

from fastapi.concurrency import run_in_threadpool

from app.core import streaming
from app.core.db import read_session
from app.core.job_status import is_terminal
from app.core.paging import unknown_cursor
from app.core.tables import Job, JobEvent
from app.jobs import repository
from app.jobs.service import found
from app.jobs.views import event_view
from app.jobs.watch import JobWatch, Mark

_BATCH = 200


class Look(NamedTuple):
    """What one query found for all streams that are at the same position."""

    over: bool
    """Whether the job has ended."""
    text: str
    """The events that follow, as they are sent."""
    sequence: int
    """Of the last of them."""
    more: bool
    """Whether there may be others already."""


def start_after(project_id: str, job_id: str, event_id: str | None) -> int:
    """The number of the event after which a stream begins; raises for an unknown job or event."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        if event_id is None:
            return 0
        event = repository.find_event(session, job.id, event_id)
        if event is None:
            raise unknown_cursor(event_id)
        return event.sequence


async def event_stream(watch: JobWatch, job_id: str, sequence: int) -> AsyncIterator[str]:
    """Events after ``sequence`` as they come. Comments keep the connection open; ``[DONE]`` ends it."""
    mark = None
    while True:
        look = await _shared(watch, job_id, sequence, mark)
        if look.text:
            yield look.text
            sequence = look.sequence
        if look.more:
            continue
        if look.over:
            yield "data: [DONE]\n\n"
            return
        before, mark = mark, await watch.changed(job_id, mark, streaming.COMMENT_SECONDS)
        if mark == before:
            yield streaming.STILL_HERE


async def _shared(watch: JobWatch, job_id: str, sequence: int, mark: Mark | None) -> Look:
    """:func:`_next`, called once for all streams that are at the same position and woke for the same change.

    The change is a part of what they share: a query that began before it may not have seen it.
    """
    key = (job_id, sequence, mark)
    task = watch.asked.get(key)
    if task is None:
        task = watch.asked[key] = asyncio.create_task(run_in_threadpool(_next, job_id, sequence))
        task.add_done_callback(lambda _: watch.asked.pop(key, None))
    # A closed page must not deprive the others of the answer.
    return await asyncio.shield(task)


def _next(job_id: str, sequence: int) -> Look:
    """What follows. The status is read before the events: none is missed."""
    with read_session() as session:
        job = session.get(Job, job_id)
        over = job is None or is_terminal(job.status)
        events = repository.events_after(session, job_id, sequence, _BATCH)
        return Look(
            over=over,
            text="".join(map(_sse, events)),
            sequence=events[-1].sequence if events else sequence,
            more=len(events) == _BATCH,
        )


def _sse(event: JobEvent) -> str:
    return f"id: {event.id}\ndata: {json.dumps(event_view(event), ensure_ascii=False)}\n\n"
