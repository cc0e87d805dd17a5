"""A job's metrics as server-sent events, a step each, until the job is over."""

import json
from collections.abc import AsyncIterator, Collection

from fastapi.concurrency import run_in_threadpool

from app.core import streaming
from app.core.db import read_session
from app.core.errors import BadRequest
from app.core.job_status import is_terminal
from app.core.tables import Job
from app.core.validation import abbreviated
from app.jobs.service import found
from app.jobs.watch import JobWatch
from app.series import repository

_BATCH = 200

Steps = dict[int, dict[str, float]]


def start_after(project_id: str, job_id: str, last_event_id: str | None) -> int:
    """The step after which a stream begins; raises for an unknown job, or an id that no event can have."""
    with read_session() as session:
        found(session, project_id, job_id)
    if last_event_id is None:
        return -1
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 10):
        raise BadRequest(
            f"Invalid header 'Last-Event-ID': {abbreviated(last_event_id)}. It must be the number of a step.",
            param="Last-Event-ID",
        )
    return min(int(last_event_id), 2**31 - 1)


async def metrics_stream(
    watch: JobWatch, job_id: str, wanted: Collection[str], step: int
) -> AsyncIterator[str]:
    """The steps after ``step`` as they come; no name in ``wanted``: every series. ``[DONE]`` ends it.

    A step that a resumed run does again is not sent again: its values are the same.
    """
    mark = None
    while True:
        over, steps = await run_in_threadpool(_next, job_id, wanted, step)
        for number, values in sorted(steps.items()):
            body = {"object": "fine_tuning.job.metrics", "step": number, "values": values}
            yield f"id: {number}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"
            step = number
        if not steps:
            if over:
                yield "data: [DONE]\n\n"
                return
            before, mark = mark, await watch.changed(job_id, mark, streaming.COMMENT_SECONDS)
            if mark == before:
                yield streaming.STILL_HERE


def _next(job_id: str, wanted: Collection[str], step: int) -> tuple[bool, Steps]:
    """Whether the job is over, and the steps that follow. The status is read first: none is missed."""
    with read_session() as session:
        job = session.get(Job, job_id)
        over = job is None or is_terminal(job.status)
        names = dict(repository.series(session, job_id))
        numbers = [number for number, name in names.items() if not wanted or name in wanted]
        rows = repository.table(session, numbers, step, _BATCH) if numbers else {}
    return over, {at: {names[number]: value for number, value in row.items()} for at, row in rows.items()}
