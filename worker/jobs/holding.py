"""A worker's hold on a job: its lease (``worker.lease``), and what a claim of a job adds."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    Insert,
    Integer,
    String,
    Subquery,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.orm import Session

from app.core.db import get_engine, read_session, write_connection, write_session
from app.core.ids import new_event_id
from app.core.job_log import appending
from app.core.job_status import HELD, JobStatus
from app.core.strict_json import JsonObject
from app.core.tables import Double, Job, JobAttempt
from app.jobs.order import HEADS, first_due, is_due
from app.jobs.status import values_of_claim
from worker.jobs import preflight_status
from worker.lease import OWNER, Claim, Claiming, Lease, LeaseLost

JOBS = Lease(Job, [status.value for status in HELD])


@dataclass(frozen=True)
class Flags:
    """What the user asked of a running job."""

    cancel_requested: bool
    pause_requested: bool


_NOW = bindparam("now", type_=Double)
_ROOM, _LEAST = bindparam("room", type_=Integer), bindparam("least", type_=Integer)
_ONLY = bindparam("only", type_=String)
_TAKEN = "A worker has taken the job and is checking its grader."
_STARTED, _AGAIN = "The job has started.", "The job has restarted (attempt {attempt})."


@dataclass(frozen=True)
class _Statements:
    """What a claim sends: the job's row, and the attempt's and the event's, which PostgreSQL writes with it.

    Each statement is a turn of the processor for both sides, and their number decides how many claims a
    second there can be. SQLite has no INSERT within another statement.
    """

    claiming: Claiming
    records: tuple[Insert, ...] = ()


def claim_next(owner: str, room: int = 1, only: str | None = None, least: int = 1) -> Claim | None:
    """Claim the next waiting job that is not locked; None if there is none.

    Args:
        room: how many of the worker's GPUs are free: a job that begins with more is passed over.
        only: the one job that the room is kept for.
        least: 0 where a Ray cluster answers, whose jobs begin with none of the worker's GPUs.
    """
    postgresql = _is_postgresql()
    # SQLite has one writer: nobody can have taken anything since the first look.
    looks = HEADS if postgresql and only is None else HEADS[:1]
    its: JsonObject = {"room": room}
    its |= {"least": least} if only is None else {"only": only}
    claims = (_claim(_statements(heads, postgresql, only is not None), owner, its) for heads in looks)
    return next((found for found in claims if found is not None), None)


def _is_postgresql() -> bool:
    return get_engine().dialect.name == "postgresql"


@lru_cache
def _statements(heads: int, postgresql: bool, only: bool) -> _Statements:
    if only:
        waiting = select(Job.id).where(*is_due(_NOW), Job.id == _ONLY, Job.least_gpus <= _ROOM)
    else:
        waiting = first_due(_NOW, heads=heads, postgresql=postgresql, room=(_LEAST, _ROOM))
    status = case(
        (preflight_status.is_due(), JobStatus.VALIDATING_FILES.value), else_=JobStatus.RUNNING.value
    )
    values = values_of_claim(status, _NOW) | {"clock_step": None, "clock_at": None, "stepped_at": None}
    held = case((Job.wanted_gpus <= _ROOM, Job.wanted_gpus), else_=_ROOM)
    values |= {"held_gpus": held, "reserved_by": None, "turn_at": None}
    claiming = JOBS.claiming(waiting, Job.held_gpus, Job.status, **values)
    if not postgresql:
        its = select(Job.id, Job.attempt, Job.status).where(Job.id == bindparam("taken")).subquery()
        return _Statements(claiming, _records(its, func.json_object))
    taken = claiming.cte("taken")
    attempt, event = _records(taken, func.json_build_object)
    both = select(taken.c.id, taken.c.attempt, taken.c.held_gpus).add_cte(
        attempt.cte("attempts"), event.cte("events")
    )
    return _Statements(both)


def _records(taken: CTE | Subquery, json_object: Any) -> tuple[Insert, Insert]:
    """The attempt and the event of the job, whose ``id``, ``attempt`` and ``status`` are those given."""
    its = taken.c
    attempt = select(its.id, its.attempt, OWNER, _NOW, literal(0))
    again = func.replace(_AGAIN, "{attempt}", cast(its.attempt, String))
    text = case(
        (
            its.status == JobStatus.VALIDATING_FILES.value,
            "A worker has taken the job and is checking its grader.",
        ),
        (its.attempt == 1, _STARTED),
        else_=again,
    )
    return (
        insert(JobAttempt).from_select(
            ["job_id", "attempt", "worker", "started_at", "relayed_bytes"], attempt
        ),
        appending(taken, text, json_object("attempt", its.attempt, "status", its.status)),
    )


def _claim(statements: _Statements, owner: str, its: JsonObject) -> Claim | None:
    its = its | {"now": time.time(), "event_id": new_event_id()}
    with write_connection(one_statement=not statements.records) as connection:
        found = JOBS.claim(connection, statements.claiming, owner, **its)
        if found is None:
            return None
        claim, (gpus, *_) = found
        for record in statements.records:
            connection.execute(record, its | {"taken": claim.id, "its_owner": owner})
    return replace(claim, gpus=gpus)


def any_due(room: int | None = None, only: str | None = None, least: int = 1) -> bool:
    """Whether a job waits for nothing but its turn, locked or not; of those that have room, or that one."""
    query = select(Job.id).where(*is_due(time.time()))
    if room is not None:
        query = query.where(Job.least_gpus.between(least, room))
    if only is not None:
        query = query.where(Job.id == only)
    with read_session() as session:
        return session.scalar(query.limit(1)) is not None


def started_text(attempt: int) -> str:
    """What the event says with which a job becomes ``running``."""
    return _STARTED if attempt == 1 else _AGAIN.format(attempt=attempt)


def hold(session: Session, claim: Claim) -> Job:
    """The claimed job's row, locked until the transaction ends; raises LeaseLost when it is not ours."""
    return JOBS.hold(session, claim)


def write_progress(session: Session, claim: Claim, **values: object) -> None:
    """Set columns of the claimed job, which also locks its row; raises LeaseLost when it is not ours."""
    JOBS.write(session, claim, **values)


def renew(claim: Claim) -> Flags:
    """Extend the lease from now and read the user's flags; raises LeaseLost when it is not ours."""
    with write_session() as session:
        return Flags(*JOBS.renew(session, claim, Job.cancel_requested, Job.pause_requested))


def read_flags(claim: Claim) -> Flags:
    """The user's flags, without a write; raises LeaseLost when the job is not ours."""
    with read_session() as session:
        row = session.execute(
            select(Job.cancel_requested, Job.pause_requested).where(*JOBS.mine(claim))
        ).one_or_none()
    if row is None:
        raise LeaseLost(claim)
    return Flags(*row)
