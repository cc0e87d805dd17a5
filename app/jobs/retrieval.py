"""One job's object, as text: this route gets more requests than all others together."""

import json
import time
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, select
from sqlalchemy.types import JSON

from app.core.job_status import JobStatus
from app.core.quick_reads import QuickReads, json_part
from app.core.tables import Job
from app.jobs.methods import METHODS
from app.jobs.order import Places, later_places
from app.jobs.service import no_such_job
from app.jobs.views import FACT_COLUMNS, view_without_method

_REQUESTED = (Job.id == bindparam("job_id"), Job.project_id == bindparam("project_id"))
_JSON = [column.key for column in FACT_COLUMNS if isinstance(column.type, JSON)]
_PARTS: dict[str, ColumnElement[Any]] = {
    "hyperparameters": func.coalesce(*(json_part(Job.method, name, "hyperparameters") for name in METHODS)),
    "training_data": json_part(Job.run_spec, "training_data"),
    "validation_data": json_part(Job.run_spec, "validation_data"),
    "resources": json_part(Job.run_spec, "resources"),
    "method": cast(Job.method, Text),
}
_NAMES = [*(column.key for column in FACT_COLUMNS), *_PARTS]
_JOB = select(
    *(cast(column, Text) if column.key in _JSON else column for column in FACT_COLUMNS),
    *_PARTS.values(),
).where(*_REQUESTED)
_LOADED = [*_JSON, "hyperparameters", "training_data", "validation_data", "resources"]


async def job_text(reads: QuickReads, project_id: str, job_id: str) -> str:
    """The job object as JSON; raises NotFound."""
    rows = await reads.rows(_JOB, job_id=job_id, project_id=project_id)
    if not rows:
        raise no_such_job(job_id)
    job = SimpleNamespace(**dict(zip(_NAMES, rows[0], strict=True)))
    for name in _LOADED:
        text = getattr(job, name)
        setattr(job, name, None if text is None else json.loads(text))
    waits = job.status == JobStatus.QUEUED and not job.cancel_requested
    place = await _queue_position(reads, job) if waits else None
    view = json.dumps(view_without_method(job, place), ensure_ascii=False, separators=(",", ":"))
    return f'{view[:-1]},"method":{job.method}}}'


async def _queue_position(reads: QuickReads, job: SimpleNamespace) -> int | None:
    now = time.time()
    wanted = Places([job], now)
    places, due = wanted.found(await reads.rows(wanted.query, **wanted.values))
    if places:
        return places[job.id]
    rows = await reads.rows(_LATER, job_id=job.id, now=now)
    return due + rows[0][0] if rows else None


def _later() -> Any:
    places = later_places(bindparam("now"))
    return select(places.c.place).where(places.c.id == bindparam("job_id"))


_LATER = _later()
