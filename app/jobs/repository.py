"""Rows of jobs and their events."""

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, func, literal_column, select, tuple_
from sqlalchemy.orm import Session, aliased

from app.jobs.order import queue_places
from app.tables import Job, JobEvent

#: The last job of the page before. Made once: an alias of a table with many columns takes a millisecond.
_CURSOR = aliased(Job)


def find(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Job | None:
    """The job; with ``lock`` nobody else changes it until the transaction ends."""
    query = select(Job).where(Job.id == job_id, Job.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).first()


def listing(
    session: Session,
    project_id: str,
    *,
    after: str | None,
    limit: int,
    metadata: Mapping[str, str] | None,
    statuses: Sequence[str] = (),
) -> Sequence[Job]:
    """Up to ``limit`` jobs after the one called ``after``, newest first; none where there is no such job.

    ``metadata`` None: those that have none. ``statuses``: those in one of them; empty: in any.
    """
    query = select(Job).where(Job.project_id == project_id)
    if statuses:
        query = query.where(Job.status.in_(statuses))
    if metadata is None:
        query = query.where(Job.user_metadata.is_(None))
    for key, value in (metadata or {}).items():
        query = query.where(Job.user_metadata.is_not(None), _has_pair(session, key, value))
    if after is not None:
        # Looked up within the statement: one more would make a later page dearer than the first.
        created_at = select(_CURSOR.created_at).where(_CURSOR.id == after, _CURSOR.project_id == project_id)
        query = query.where(tuple_(Job.created_at, Job.id) < tuple_(created_at.scalar_subquery(), after))
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()


def _has_pair(session: Session, key: str, value: str) -> ColumnElement[bool]:
    # As rows rather than by a JSON path, in which a key with quotes or dots would need escaping.
    postgresql = session.get_bind().dialect.name == "postgresql"
    each = func.json_each_text if postgresql else func.json_each
    pairs = each(Job.user_metadata).table_valued("key", "value")
    return select(literal_column("1")).where(pairs.c.key == key, pairs.c.value == value).exists()


def queue_positions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """How far each of the queued jobs is from its turn: 1 is next (``app.jobs.order``)."""
    if not job_ids:
        return {}
    places = queue_places(time.time())
    return dict(session.execute(select(places.c.id, places.c.place).where(places.c.id.in_(job_ids))).all())


def find_event(session: Session, job_id: str, event_id: str) -> JobEvent | None:
    return session.scalars(select(JobEvent).where(JobEvent.id == event_id, JobEvent.job_id == job_id)).first()


def events_before(session: Session, job_id: str, before: JobEvent | None, limit: int) -> Sequence[JobEvent]:
    """Up to ``limit`` events, newest first, that are older than ``before``."""
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    if before is not None:
        query = query.where(JobEvent.sequence < before.sequence)
    return session.scalars(query.order_by(JobEvent.sequence.desc()).limit(limit)).all()


def events_after(session: Session, job_id: str, sequence: int, limit: int) -> Sequence[JobEvent]:
    """Up to ``limit`` events, oldest first, with a number above ``sequence``."""
    return session.scalars(
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.sequence > sequence)
        .order_by(JobEvent.sequence)
        .limit(limit)
    ).all()
