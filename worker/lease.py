"""Leases: which worker runs a job, and the token that keeps a worker that lost it from writing.

A claim raises ``jobs.attempt`` by one; that number is the fencing token. Every later write of the worker
happens in a transaction that first asserts ``attempt = mine and status in HELD``, which on
PostgreSQL also locks the row: see :func:`hold`. Times are the hosts' wall clocks, so the hosts' clocks may
differ by no more than a fraction of ``lease_seconds``.
"""

import os
import socket
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db import read_session, write_session
from app.jobs.status import HELD, JobStatus, change_status
from app.settings import get_settings
from app.tables import Job, JobAttempt
from worker import look

_HELD = [status.value for status in HELD]


class LeaseLost(Exception):
    """Another worker, or nobody, holds the job now: stop the trainer and write nothing."""

    def __init__(self, claim: "Claim"):
        super().__init__(f"the lease of {claim.job_id}, attempt {claim.attempt}, is no longer ours")


@dataclass(frozen=True)
class Claim:
    """A worker's hold on a job. ``attempt`` is the fencing token."""

    job_id: str
    attempt: int
    owner: str


@dataclass(frozen=True)
class Flags:
    """What the user asked of a running job."""

    cancel_requested: bool
    pause_requested: bool


def new_owner() -> str:
    """A name for this process as an owner of leases, unlike that of any other."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


def claim(job_id: str, owner: str) -> Claim | None:
    """Take a queued job that is due, or None: it is not queued (any more), or has to wait.

    One conditional UPDATE decides among workers; the status, its event and the attempt's row belong to the
    same transaction.
    """
    now = time.time()
    with write_session() as session:
        attempt = session.scalar(
            update(Job)
            .where(
                Job.id == job_id,
                Job.status == JobStatus.QUEUED.value,
                Job.not_before <= now,
                Job.cancel_requested.is_(False),
            )
            .values(
                attempt=Job.attempt + 1,
                lease_owner=owner,
                lease_expires_at=now + get_settings().lease_seconds,
                clock_step=None,
                clock_at=None,
                stepped_at=None,
            )
            .returning(Job.attempt)
            .execution_options(synchronize_session=False)
        )
        if attempt is None:
            return None
        session.add(JobAttempt(job_id=job_id, attempt=attempt, worker=owner, started_at=now))
        job = session.get_one(Job, job_id)
        if look.is_due(job):
            status, text = (
                JobStatus.VALIDATING_FILES,
                "A worker has taken the job and tries its grader.",
            )
        else:
            status, text = JobStatus.RUNNING, started_text(attempt)
        change_status(session, job, status, message=text, data={"attempt": attempt}, now=now)
    return Claim(job_id, attempt, owner)


def started_text(attempt: int) -> str:
    """What the event says with which a job becomes ``running``."""
    return "The job has started." if attempt == 1 else f"The job has started again (attempt {attempt})."


def _mine(claim: Claim) -> tuple[Any, ...]:
    return Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status.in_(_HELD)


def hold(session: Session, claim: Claim) -> Job:
    """The claimed job's row, locked until the transaction ends; raises LeaseLost when it is not ours."""
    job = session.scalars(
        select(Job).where(*_mine(claim)).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise LeaseLost(claim)
    return job


def write_progress(session: Session, claim: Claim, **values: Any) -> None:
    """Set columns of the claimed job, which also locks its row; raises LeaseLost when it is not ours.

    Cheaper than :func:`hold`: it reads no specification. With no values it only asserts and locks.
    """
    found = session.scalar(
        update(Job)
        .where(*_mine(claim))
        .values(values or {"attempt": Job.attempt})
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    if found is None:
        raise LeaseLost(claim)


def renew(claim: Claim) -> Flags:
    """Extend the lease from now and read the user's flags; raises LeaseLost when it is not ours."""
    with write_session() as session:
        row = session.execute(
            update(Job)
            .where(*_mine(claim))
            .values(lease_expires_at=time.time() + get_settings().lease_seconds)
            .returning(Job.cancel_requested, Job.pause_requested)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    if row is None:
        raise LeaseLost(claim)
    return Flags(*row)


def read_flags(claim: Claim) -> Flags:
    """The user's flags, without a write; raises LeaseLost when the job is not ours."""
    with read_session() as session:
        row = session.execute(
            select(Job.cancel_requested, Job.pause_requested).where(*_mine(claim))
        ).one_or_none()
    if row is None:
        raise LeaseLost(claim)
    return Flags(*row)
