"""A worker's hold on a job: its lease (``worker.lease``), with what a job's claim brings along."""

import time
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Select, bindparam, case, insert, select
from sqlalchemy.orm import Session

from app.core.db import read_session, write_session
from app.core.job_status import HELD, JobStatus
from app.core.tables import Double, Job, JobAttempt
from app.jobs.order import HEADS, first_due, is_due
from app.jobs.status import record_status, values_of_claim
from worker.jobs import preflight_status
from worker.lease import Claim, Claiming, Lease, LeaseLost

JOBS = Lease(Job, [status.value for status in HELD])


@dataclass(frozen=True)
class Flags:
    """What the user asked of a running job."""

    cancel_requested: bool
    pause_requested: bool


_NOW = bindparam("now", type_=Double)


def claim(job_id: str, owner: str) -> Claim | None:
    """Take the queued job, or None: it is not queued (any more), has to wait, or is locked by another."""
    waiting = select(Job.id).where(Job.id == job_id, *is_due(_NOW))
    with write_session() as session:
        return _claim(session, _claiming(waiting), owner)


def claim_next(owner: str) -> Claim | None:
    """Take the waiting job whose turn it is, of those that nobody has locked; None where there is none."""
    with write_session() as session:
        postgresql = session.get_bind().dialect.name == "postgresql"
        # SQLite has one writer: nobody can have taken anything since the first look.
        looks = HEADS if postgresql else HEADS[:1]
        claims = (_claim(session, _claiming_next(heads, postgresql), owner) for heads in looks)
        return next((found for found in claims if found is not None), None)


@lru_cache
def _claiming_next(heads: int, postgresql: bool) -> Claiming:
    return _claiming(first_due(_NOW, heads=heads, postgresql=postgresql))


def _claiming(waiting: Select[str]) -> Claiming:
    status = case(
        (preflight_status.is_due(), JobStatus.VALIDATING_FILES.value), else_=JobStatus.RUNNING.value
    )
    values = values_of_claim(status, _NOW) | {"clock_step": None, "clock_at": None, "stepped_at": None}
    return JOBS.claiming(waiting, Job.status, **values)


def _claim(session: Session, claiming: Claiming, owner: str) -> Claim | None:
    """Three statements: the job's row, the attempt's, and the event's."""
    now = time.time()
    found = JOBS.claim(session, claiming, owner, now=now)
    if found is None:
        return None
    claim, (status,) = found
    attempt = {"job_id": claim.id, "attempt": claim.attempt, "worker": owner, "started_at": now}
    session.connection().execute(insert(JobAttempt), attempt)
    text = started_text(claim.attempt)
    if status == JobStatus.VALIDATING_FILES:
        text = "A worker has taken the job and is trying its grader."
    record_status(session, claim.id, status, message=text, data={"attempt": claim.attempt}, now=now)
    return claim


def any_due() -> bool:
    """Whether a job waits for nothing but its turn, locked or not."""
    with read_session() as session:
        return session.scalar(select(Job.id).where(*is_due(time.time())).limit(1)) is not None


def started_text(attempt: int) -> str:
    """What the event says with which a job becomes ``running``."""
    return "The job has started." if attempt == 1 else f"The job has started again (attempt {attempt})."


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
