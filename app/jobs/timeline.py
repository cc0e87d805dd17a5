"""What happened to a job, placed along its steps: for the marks on charts."""

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from app.core.db import read_session
from app.core.tables import JobAttempt, JobEvent
from app.jobs.service import found
from app.jobs.views import event_view

#: The latest messages; a job's metrics events are not among them, however many there are.
MOST_EVENTS = 200


def timeline(project_id: str, job_id: str) -> dict[str, object]:
    """Attempts and messages, oldest first. ``step``: how many steps were done when it happened.

    ``last_event_id`` is where a stream of what follows begins.
    """
    with read_session() as session:
        job = found(session, project_id, job_id)
        attempts = session.scalars(
            select(JobAttempt).where(JobAttempt.job_id == job.id).order_by(JobAttempt.attempt)
        ).all()
        newest = select(JobEvent.id).where(JobEvent.job_id == job.id).order_by(JobEvent.sequence.desc())
        return {
            "object": "fine_tuning.job.timeline",
            "attempts": [_attempt(session, one) for one in attempts],
            "events": _messages(session, job.id),
            "last_event_id": session.scalar(newest.limit(1)),
        }


def _messages(session: Session, job_id: str) -> list[dict[str, object]]:
    metrics = aliased(JobEvent)
    before = (
        select(metrics.data)
        .where(metrics.job_id == job_id, metrics.type == "metrics", metrics.sequence < JobEvent.sequence)
        .order_by(metrics.sequence.desc())
        .limit(1)
        .correlate(JobEvent)
        .scalar_subquery()
    )
    query = (
        select(JobEvent, before.label("before"))
        .where(JobEvent.job_id == job_id, JobEvent.type == "message")
        .order_by(JobEvent.sequence.desc())
        .limit(MOST_EVENTS)
    )
    rows = session.execute(query).all()
    return [{**event_view(event), "step": _step(event.data, data)} for event, data in reversed(rows)]


def _step(own: dict[str, object] | None, before: dict[str, object] | None) -> int:
    """The step that the message names itself, or that of the last metrics before it."""
    for data in (own, before):
        if data is not None and isinstance(step := data.get("step"), int):
            return step
    return 0


def _attempt(session: Session, attempt: JobAttempt) -> dict[str, object]:
    # Before the first there was no step: without this, each step's event would be looked at to find none.
    step = 0 if attempt.attempt == 1 else _step(None, session.scalar(_last_step(attempt)))
    return {
        "object": "fine_tuning.job.attempt",
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "step": step,
    }


def _last_step(attempt: JobAttempt) -> Select[dict[str, object] | None]:
    """The data of the last metrics event before an attempt began."""
    return (
        select(JobEvent.data)
        .where(
            JobEvent.job_id == attempt.job_id,
            JobEvent.type == "metrics",
            JobEvent.created_at <= attempt.started_at,
        )
        .order_by(JobEvent.sequence.desc())
        .limit(1)
    )
