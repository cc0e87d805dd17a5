"""One job's object, as text: the route that is asked more often than all others together."""

import json
import time
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, select
from sqlalchemy.types import JSON

from app.jobs.order import queue_places
from app.jobs.service import no_such_job
from app.jobs.status import JobStatus
from app.jobs.views import FACT_COLUMNS, view_without_method
from app.quick_reads import QuickReads, json_part
from app.tables import Job

_REQUESTED = (Job.id == bindparam("job_id"), Job.project_id == bindparam("project_id"))
_JSON = [column.key for column in FACT_COLUMNS if isinstance(column.type, JSON)]
_PARTS: dict[str, ColumnElement[Any]] = {
    "hyperparameters": json_part(Job.method, "reinforcement", "hyperparameters"),
    "training_data": json_part(Job.run_spec, "training_data"),
    "validation_data": json_part(Job.run_spec, "validation_data"),
    "method": cast(Job.method, Text),
}
_NAMES = [*(column.key for column in FACT_COLUMNS), *_PARTS]
_JOB = select(
    *(cast(column, Text) if column.key in _JSON else column for column in FACT_COLUMNS),
    *_PARTS.values(),
).where(*_REQUESTED)
_LOADED = [*_JSON, "hyperparameters", "training_data", "validation_data"]


async def job_text(reads: QuickReads, project_id: str, job_id: str) -> str:
    """The job object as JSON; raises NotFound."""
    rows = await reads.rows(_JOB, job_id=job_id, project_id=project_id)
    if not rows:
        raise no_such_job(job_id)
    job = SimpleNamespace(**dict(zip(_NAMES, rows[0], strict=True)))
    for name in _LOADED:
        text = getattr(job, name)
        setattr(job, name, None if text is None else json.loads(text))
    place = await _queue_position(reads, job.id) if job.status == JobStatus.QUEUED else None
    view = json.dumps(view_without_method(job, place), ensure_ascii=False, separators=(",", ":"))
    return f'{view[:-1]},"method":{job.method}}}'


async def _queue_position(reads: QuickReads, job_id: str) -> int | None:
    rows = await reads.rows(_PLACE, job_id=job_id, now=time.time())
    return rows[0][0] if rows else None


def _place() -> Any:
    places = queue_places(bindparam("now"))
    return select(places.c.place).where(places.c.id == bindparam("job_id"))


_PLACE = _place()
