"""The one place where a job's status changes, each with its event, and its webhooks, in one transaction."""

import time

from sqlalchemy import ColumnElement, case, func, update
from sqlalchemy.orm import Session

from app.core.job_log import Level, add_event
from app.core.job_status import HELD, TERMINAL, TRANSITIONS, JobStatus
from app.core.strict_json import JsonObject
from app.core.tables import Job
from app.series.repository import seal
from app.webhooks.outbox import announce_end


class IllegalTransition(Exception):
    """The table does not allow this change."""

    def __init__(self, job_id: str, old: str, new: str):
        super().__init__(f"job {job_id} is {old} and cannot become {new}")
        self.job_id, self.old, self.new = job_id, old, new


def change_status(
    session: Session,
    job: Job,
    new: JobStatus | str,
    *,
    message: str,
    level: Level = "info",
    data: JsonObject | None = None,
    now: float | None = None,
) -> None:
    """Move ``job`` to ``new`` and record ``message`` as its event, whose data has ``new`` as ``status``.

    The caller commits both or neither.

    Raises IllegalTransition when the table forbids it, also when another transaction changed the status
    since ``job`` was read. Times, lease and outbox follow the status: a job that becomes queued is to be
    announced again (``enqueued_at`` NULL), one that no worker holds any more has no lease.
    """
    new, old = JobStatus(new), JobStatus(job.status)
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(job.id, old, new)
    now = time.time() if now is None else now
    values: JsonObject = {"status": new.value}
    if new is JobStatus.RUNNING and job.started_at is None:
        values["started_at"] = now
    if new is JobStatus.QUEUED:
        values["enqueued_at"] = None
    if new is JobStatus.PAUSED:
        values["pause_requested"] = False
    if new not in HELD:
        values |= {"lease_owner": None, "lease_expires_at": None}
    if new in TERMINAL:
        values["finished_at"] = now
    session.flush()
    changed = session.scalar(
        update(Job)
        .where(Job.id == job.id, Job.status == old.value)
        .values(**values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    if changed is None:
        raise IllegalTransition(job.id, f"no longer {old}", new)
    session.refresh(job)
    data = {**(data or {}), "status": new.value}
    add_event(session, job.id, level, "message", message, data, now=now, is_locked=True)
    if new in TERMINAL:
        seal(session, job.id, reached=job.step)
        announce_end(session, job.project_id, f"fine_tuning.job.{new.value}", job.id, now)


def values_of_claim(new: ColumnElement[str], now: ColumnElement[float]) -> JsonObject:
    """What a claim sets of a queued job, in one UPDATE, that it becomes ``new``: a held status which its row
    decides. The caller has ``app.core.job_log.appending`` tell of it in the same transaction."""
    since = func.coalesce(Job.started_at, now)
    return {
        "status": new,
        "started_at": case((new == JobStatus.RUNNING.value, since), else_=Job.started_at),
    }
