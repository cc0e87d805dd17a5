"""Estimates in the database: a queue of their own, held by the same rules as jobs.

The row is the truth and a message is a wake-up call; a worker claims a row for a time, and what it writes
later is conditional on its attempt.
"""

import time
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from app.tables import Estimate

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"


def find(session: Session, project_id: str, estimate_id: str) -> Estimate | None:
    """The project's estimate."""
    query = select(Estimate).where(Estimate.id == estimate_id, Estimate.project_id == project_id)
    return session.scalars(query).one_or_none()


def claim(session: Session, estimate_id: str, seconds: float, most: int) -> tuple[int, dict[str, Any]] | None:
    """Take an estimate that waits, or whose worker was lost: the attempt and the run's specification.

    None when it is not to be had. One that was lost ``most`` times is failed.
    """
    now = time.time()
    lost = (Estimate.status == RUNNING) & (Estimate.lease_expires_at < now)
    row = session.execute(
        update(Estimate)
        .where(Estimate.id == estimate_id, or_(Estimate.status == QUEUED, lost))
        .values(status=RUNNING, attempt=Estimate.attempt + 1, lease_expires_at=now + seconds)
        .returning(Estimate.attempt, Estimate.run_spec)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        return None
    if row.attempt > most:
        text = f"Its probe was lost {most} times, with the workers that ran it."
        finish(
            session, estimate_id, row.attempt, error={"code": "worker_lost", "message": text, "param": None}
        )
        return None
    return row.attempt, row.run_spec


def renew(session: Session, estimate_id: str, attempt: int, seconds: float) -> bool:
    """Hold it for ``seconds`` more; False when another worker has it."""
    return _write(session, estimate_id, attempt, lease_expires_at=time.time() + seconds)


def finish(
    session: Session,
    estimate_id: str,
    attempt: int,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> bool:
    """Write the end of an attempt; False when another worker has it."""
    status = FAILED if result is None else SUCCEEDED
    return _write(
        session, estimate_id, attempt, status=status, result=result, error=error, finished_at=time.time()
    )


def release(session: Session, estimate_id: str, attempt: int) -> bool:
    """Give it back untried, for the next worker."""
    return _write(session, estimate_id, attempt, status=QUEUED, attempt=attempt - 1, enqueued_at=None)


def waiting(session: Session, resend_after: float, limit: int) -> list[str]:
    """Those to send a message for (again): never told of, told of long ago, or lost with their worker."""
    now = time.time()
    silent = or_(Estimate.enqueued_at.is_(None), Estimate.enqueued_at < now - resend_after)
    lost = (Estimate.status == RUNNING) & (Estimate.lease_expires_at < now)
    query = select(Estimate.id).where(or_((Estimate.status == QUEUED) & silent, lost & silent))
    return list(session.scalars(query.order_by(Estimate.created_at).limit(limit)))


def mark_sent(session: Session, estimate_id: str, when: float | None) -> None:
    """Note when its message was sent; None when that failed."""
    session.execute(update(Estimate).where(Estimate.id == estimate_id).values(enqueued_at=when))


def remove_older(session: Session, than: float) -> None:
    """Forget those that ended before ``than``."""
    session.execute(delete(Estimate).where(Estimate.finished_at < than))


def _write(session: Session, estimate_id: str, held: int, **values: Any) -> bool:
    changed = session.scalar(
        update(Estimate)
        .where(Estimate.id == estimate_id, Estimate.attempt == held, Estimate.status == RUNNING)
        .values(**values)
        .returning(Estimate.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None
