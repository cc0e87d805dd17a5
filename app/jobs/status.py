"""The one place where a job's status changes, each with its event, and its webhooks, in one transaction."""

import time
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.ids import new_event_id
from app.metrics.repository import seal
from app.tables import Job, JobEvent
from app.webhooks.outbox import announce_end

Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]


class JobStatus(StrEnum):
    """OpenAI's statuses and our two for pausing."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = JobStatus

#: From each status, where a job may go. A new job's files are validated at once; its grader is when its turn
#: comes: ``queued → validating_files → running`` (``worker.look``). From one of these two to ``queued``: its
#: worker was lost, or is shutting down.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.VALIDATING_FILES: frozenset({_S.QUEUED, _S.RUNNING, _S.PAUSING, _S.FAILED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.VALIDATING_FILES, _S.RUNNING, _S.PAUSED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.PAUSING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
TERMINAL = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
#: A worker holds the job's lease in these. (A job that is being created is in none that others can see.)
HELD = frozenset({_S.VALIDATING_FILES, _S.RUNNING, _S.PAUSING})


class IllegalTransition(Exception):
    """The table does not allow this change."""

    def __init__(self, job_id: str, old: str, new: str):
        super().__init__(f"job {job_id} is {old} and cannot become {new}")
        self.job_id, self.old, self.new = job_id, old, new


def is_terminal(status: str) -> bool:
    return status in TERMINAL


def change_status(
    session: Session,
    job: Job,
    new: JobStatus | str,
    *,
    message: str,
    level: Level = "info",
    data: dict[str, Any] | None = None,
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
    values: dict[str, Any] = {"status": new.value}
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
    add_event(session, job.id, level, "message", message, {**(data or {}), "status": new.value}, now=now)
    if new in TERMINAL:
        seal(session, job.id)
        announce_end(session, job.project_id, job.id, new.value, now)


def add_event(
    session: Session,
    job_id: str,
    level: Level,
    type: EventType,
    message: str,
    data: dict[str, Any] | None = None,
    *,
    now: float | None = None,
) -> JobEvent:
    """Append an event to a job's log."""
    # Whoever holds the job's row draws the next sequence number, so that events become visible in the
    # order of their numbers and a reader that asks "after n" misses none. SQLite has one writer anyway.
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    event = JobEvent(
        id=new_event_id(),
        job_id=job_id,
        created_at=time.time() if now is None else now,
        level=level,
        type=type,
        message=message.replace("\x00", "\ufffd"),
        data=data,
    )
    session.add(event)
    session.flush()
    return event
