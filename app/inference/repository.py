"""Rows of inference workers."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import get_settings
from app.tables import InferenceWorker


def live_workers(session: Session) -> list[InferenceWorker]:
    """The inference workers whose heartbeat is not older than a lease."""
    since = time.time() - get_settings().lease_seconds
    return list(session.scalars(select(InferenceWorker).where(InferenceWorker.heartbeat_at >= since)))
