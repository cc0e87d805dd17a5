"""Adding to what was used: one row for a project, a day, a job, a model and a mode, whoever adds.

The database adds, so any number of processes may. What a running attempt has used is added every minute and
at its end, each second and token once: the attempt's row says up to where.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.core.tables import Job, JobAttempt, Usage
from app.core.upsert import insert_for


@dataclass(frozen=True)
class Place:
    """What is added to: the columns of the primary key."""

    project_id: str
    day: str
    job_id: str = ""
    model: str = ""
    mode: str = ""


@dataclass
class Amounts:
    """What is added."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0
    trained_tokens: int = 0
    sampled_tokens: int = 0
    gradings: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __iadd__(self, other: "Amounts") -> "Amounts":
        for one in fields(other):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self


def day_of(when: float) -> str:
    """The day in UTC of a Unix time, as rows have it."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")


def add(session: Session, place: Place, amounts: Amounts) -> None:
    """Add the amounts; nothing is read, so that none is lost between a read and a write."""
    given = {name: value for name, value in vars(amounts).items() if value}
    if not given:
        return
    statement = insert_for(session, Usage).values(**vars(place), **given)
    added = {name: getattr(Usage, name) + getattr(statement.excluded, name) for name in given}
    session.execute(statement.on_conflict_do_update(index_elements=list(vars(place)), set_=added))


def count_attempt(session: Session, job: Job, *, until: float | None = None) -> None:
    """Add what the job's attempt has used since the last time; its row is locked by the caller.

    ``until``: up to when, for an attempt that ends; without it, now, once the trainer has told what it runs
    on: until then nobody knows how many GPUs a second is of.
    """
    running = until is None
    if running and job.stepped_at is None:
        return
    until = time.time() if until is None else until
    its = Place(job.project_id, day_of(until), job.id, job.model)
    attempts = session.scalars(
        # Locked: what the relay adds meanwhile is not lost.
        select(JobAttempt)
        .where(JobAttempt.job_id == job.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for attempt in attempts:
        if attempt.uncounted_trained or attempt.uncounted_sampled or attempt.uncounted_gradings:
            tokens = Amounts(
                trained_tokens=attempt.uncounted_trained,
                sampled_tokens=attempt.uncounted_sampled,
                gradings=attempt.uncounted_gradings,
            )
            add(session, its, tokens)
            attempt.uncounted_trained = attempt.uncounted_sampled = attempt.uncounted_gradings = 0
        if attempt.attempt == job.attempt:
            since = attempt.started_at if attempt.counted_at is None else attempt.counted_at
            for day, seconds in by_day(since, until):
                add(session, Place(its.project_id, day, its.job_id, its.model), _seconds(seconds, job.gpus))
            attempt.counted_at = max(since, until)


def _seconds(seconds: float, gpus: int) -> Amounts:
    return Amounts(seconds=seconds, gpu_seconds=seconds * gpus)


def by_day(since: float, until: float) -> Iterator[tuple[str, float]]:
    """The seconds between two times, by the day that they are of."""
    while since < until:
        today = datetime.fromtimestamp(since, UTC)
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1)
        end = min(until, midnight.timestamp())
        yield day_of(since), end - since
        since = end


def uncounted(told: Amounts) -> dict[str, ColumnElement[int]]:
    """What steps told, as changes of their attempt's row, where it is kept until it is added."""
    columns = {
        "uncounted_trained": told.trained_tokens,
        "uncounted_sampled": told.sampled_tokens,
        "uncounted_gradings": told.gradings,
    }
    return {name: getattr(JobAttempt, name) + amount for name, amount in columns.items() if amount}


def note_storage(session: Session, place: Place, size: int) -> None:
    """Keep what a job's run takes, or all files and runs of a project, if it is the most of the day."""
    statement = insert_for(session, Usage).values(**vars(place), storage_bytes=size)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=list(vars(place)),
            set_={"storage_bytes": statement.excluded.storage_bytes},
            where=Usage.storage_bytes < statement.excluded.storage_bytes,
        )
    )
