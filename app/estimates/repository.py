"""Estimates in the database: a queue of their own, leased to workers by the same rules as jobs.

The row is the truth and a message is a wake-up call.
"""

import time

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from app.core.tables import Estimate

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"


def find(session: Session, project_id: str, estimate_id: str) -> Estimate | None:
    """The project's estimate."""
    query = select(Estimate).where(Estimate.id == estimate_id, Estimate.project_id == project_id)
    return session.scalars(query).one_or_none()


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
