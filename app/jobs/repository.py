"""Rows of jobs and their events."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session, aliased

from app.core.job_status import JobStatus
from app.core.tables import Job, JobEvent, JobMetadata, JobReward
from app.jobs.order import Places, later_places

#: The last job of the page before. Made once: an alias of a table with many columns takes a millisecond.
_CURSOR, _REWARD_CURSOR = aliased(Job), aliased(JobReward)

#: What lists are in the order of, by columns that have an index each; the id tells equals apart.
Sort = Literal["created_at", "name", "status", "normal_reward", "high_entropy_reward"]
_KEYS = {
    "created_at": (Job.created_at, Job.id),
    "name": (Job.name, Job.id),
    "status": (Job.status, Job.created_at, Job.id),
    "normal_reward": (JobReward.normal, JobReward.job_id),
    "high_entropy_reward": (JobReward.high_entropy, JobReward.job_id),
}


def find(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Job | None:
    """The job; with ``lock`` it is locked until the transaction ends."""
    query = select(Job).where(Job.id == job_id, Job.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).first()


@dataclass(frozen=True)
class Listing:
    """Which jobs to list, and in which order.

    ``metadata`` None: those that have none. ``statuses``: those in one of them; empty: in any. ``words``:
    those that are found by each of them.
    """

    metadata: Mapping[str, str] | None = field(default_factory=dict)
    statuses: Sequence[str] = ()
    words: Sequence[str] = ()
    sort: Sort = "created_at"
    descending: bool = True


def listing(
    session: Session, project_id: str, wanted: Listing, *, after: str | None, limit: int
) -> Sequence[Job]:
    """Up to ``limit`` jobs after the one called ``after``; none where there is no such job."""
    key: tuple[Any, ...] = _KEYS[wanted.sort]
    by_reward = wanted.sort.endswith("_reward")
    if by_reward:
        # The project is asked of the rewards alone: SQLite would begin with all jobs of it.
        query = (
            select(Job).join(JobReward, JobReward.job_id == Job.id).where(JobReward.project_id == project_id)
        )
    else:
        query = select(Job).where(Job.project_id == project_id)
    if wanted.statuses:
        query = query.where(Job.status.in_(wanted.statuses))
    if wanted.words:
        # All of a project's are read, from an index that has nothing else.
        found = select(Job.id).where(Job.project_id == project_id)
        for word in wanted.words:
            found = found.where(Job.words.icontains(word, autoescape=True))
        query = query.where(Job.id.in_(found))
    if wanted.metadata is None:
        query = query.where(Job.user_metadata.is_(None))
    for number, pair in enumerate((wanted.metadata or {}).items()):
        if number == 0 and wanted.sort == "created_at":
            # The first one, in the order of its own index, as the list is.
            query = query.join(JobMetadata, JobMetadata.job_id == Job.id).where(*_has(project_id, pair))
            key = (JobMetadata.created_at, JobMetadata.job_id)
        else:
            query = query.where(Job.id.in_(select(JobMetadata.job_id).where(*_has(project_id, pair))))
    if after is not None:
        # Looked up within the statement: one more would make a later page dearer than the first.
        cursor, its_id = (_REWARD_CURSOR, _REWARD_CURSOR.job_id) if by_reward else (_CURSOR, _CURSOR.id)
        last = (
            select(getattr(cursor, column.key)).where(its_id == after, cursor.project_id == project_id)
            for column in key[:-1]
        )
        place = tuple_(*(one.scalar_subquery() for one in last), after)
        query = query.where(tuple_(*key) < place if wanted.descending else tuple_(*key) > place)
    ordered = (column.desc() if wanted.descending else column for column in key)
    return session.scalars(query.order_by(*ordered).limit(limit)).all()


def _has(project_id: str, pair: tuple[str, str]) -> tuple[ColumnElement[bool], ...]:
    key, value = pair
    return JobMetadata.project_id == project_id, JobMetadata.key == key, JobMetadata.value == value


def queue_positions(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """How far each of the jobs that are queued is from its turn: 1 is next (``app.jobs.order``)."""
    now = time.time()
    queued = [job for job in jobs if job.status == JobStatus.QUEUED and not job.cancel_requested]
    if not queued:
        return {}
    wanted = Places(queued, now)
    places, due = wanted.found(session.execute(wanted.query, wanted.values))
    if later := [job.id for job in queued if job.id not in places]:
        behind = later_places(now)
        query = select(behind.c.id, behind.c.place).where(behind.c.id.in_(later))
        places |= {job_id: due + place for job_id, place in session.execute(query)}
    return places


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
