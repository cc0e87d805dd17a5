"""Rows of inference workers."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.live_workers import lost_before
from app.core.tables import InferenceWorker


@dataclass(frozen=True)
class Worker:
    """An inference worker as it last described itself."""

    id: str
    url: str
    engine: str
    features: frozenset[str]
    """Parameters that its engine has beyond those that all have, by their names in OpenAI's API."""
    loaded: frozenset[str]
    """Folders of models that it answers for without a start."""
    active: int
    """Requests that it was answering."""


def live_workers(session: Session) -> list[Worker]:
    """The inference workers whose heartbeat is not older than a lease."""
    rows = session.scalars(select(InferenceWorker).where(InferenceWorker.heartbeat_at >= lost_before()))
    return [
        Worker(row.id, row.url, row.engine, frozenset(row.features), frozenset(row.loaded), row.active)
        for row in rows
    ]
