"""Which workers are there to run jobs."""

import time
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.core.tables import InferenceWorker, TrainingWorker

WorkerStatus = Literal["online", "draining", "lost"]


def lost_before() -> float:
    """Who was last heard of earlier than that is lost."""
    return time.time() - get_settings().lease_seconds


def status_of(worker: TrainingWorker | InferenceWorker) -> WorkerStatus:
    """Whether it is heard of, and whether it takes jobs; one that serves models never drains."""
    if worker.heartbeat_at < lost_before():
        return "lost"
    return "draining" if isinstance(worker, TrainingWorker) and worker.draining else "online"


def live_training_workers(session: Session) -> Sequence[TrainingWorker]:
    """Those that were heard of within a lease."""
    return session.scalars(select(TrainingWorker).where(TrainingWorker.heartbeat_at >= lost_before())).all()


def lacking(workers: Sequence[TrainingWorker]) -> Literal["worker", "undrain"] | None:
    """What jobs lack where none of the live ``workers`` takes any: one at all, or that one takes some."""
    if not workers:
        return "worker"
    return "undrain" if all(one.draining for one in workers) else None


def workers_warning(session: Session) -> str | None:
    """Where nobody takes jobs, what to do; or None."""
    match lacking(live_training_workers(session)):
        case "worker":
            return "No worker is connected, so jobs wait: start one with `python -m worker`."
        case "undrain":
            return "All workers are draining, so jobs wait: undrain one, or start another."
        case None:
            return None
