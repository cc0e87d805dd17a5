"""Puts right what a lost message or a lost worker left behind. One thread in every worker process.

Every change is one conditional UPDATE or one transaction that locks the row and looks again, so any number
of reconcilers may run at once. A pass:

1. queued jobs that are due and whose wake-up message was never sent, or is lost → send it
2. jobs that a worker holds and whose lease ran out → queued again (their attempt: lost), failed past the cap,
   cancelled where the user wanted that
3. queued jobs that the user wanted cancelled → cancelled
4. runs of experiments that have no job yet → their jobs, as many as may run at a time
5. replays: the same for their messages and leases
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.exc import InterfaceError, OperationalError

from app.core.db import read_session, write_session
from app.core.job_status import HELD, JobStatus
from app.core.queue import announce, queue_length
from app.core.settings import get_settings
from app.core.tables import Job
from app.experiments.expansion import start_waiting_runs
from app.jobs.status import change_status
from worker.estimates.probes import announce_probes
from worker.jobs.causes import Cause
from worker.jobs.ending import Ending, Outcome, end_attempt
from worker.replays.replaying import reconcile_replays
from worker.retention import Retention
from worker.shutdown import Shutdown

#: Jobs handled in one pass at each point; the rest is for the next pass or another worker.
PASS_LIMIT = 200

_log = logging.getLogger(__name__)
_QUEUED = JobStatus.QUEUED.value
_HELD = [status.value for status in HELD]


def start_reconciler(shutdown: Shutdown) -> list[threading.Thread]:
    """Threads that look now and every ``settings.reconcile_seconds`` until the shutdown: one reconciles, and
    one removes what was deleted or has expired, which may take long and must not keep the other."""
    passes = {"reconciler": reconcile, "retention": Retention(shutdown).look}
    threads = [
        threading.Thread(target=_run, args=(shutdown, look), name=name, daemon=True)
        for name, look in passes.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def _run(shutdown: Shutdown, look: Callable[[], None]) -> None:
    while not shutdown.requested:
        try:
            look()
        except (OperationalError, InterfaceError) as error:
            _log.warning("the database cannot be reached: %s", error.orig)
        except Exception:
            # A pass that fails on one thing must not end all later ones.
            _log.exception("a pass of the reconciler failed")
        shutdown.wait(get_settings().reconcile_seconds)


def reconcile() -> None:
    """One pass."""
    end_lost_attempts()
    cancel_queued()
    announce_waiting()
    announce_probes()
    start_waiting_runs()
    reconcile_replays()


def announce_waiting() -> int:
    """Send the wake-up messages that were never sent or got lost; how many."""
    now = time.time()
    due = (Job.status == _QUEUED, Job.not_before <= now, Job.cancel_requested.is_(False))
    with read_session() as session:
        unsent = session.scalars(
            select(Job.id).where(*due, Job.enqueued_at.is_(None)).order_by(Job.created_at).limit(PASS_LIMIT)
        ).all()
        silent = session.scalars(
            select(Job.id)
            .where(*due, Job.enqueued_at < now - get_settings().wakeup_resend_seconds)
            .order_by(Job.enqueued_at)
            .limit(PASS_LIMIT)
        ).all()
        waiting = session.scalar(select(func.count()).select_from(Job).where(*due)) or 0
    return _announce(unsent) + _announce(_probably_lost(silent, waiting - len(unsent)))


def _probably_lost(silent: Sequence[str], announced: int) -> Sequence[str]:
    """Of the jobs that nobody took for long, as many as there are too few messages in the queue.

    A busy queue is not a loss: without this, every pass would add a message for every waiting job.
    """
    if not silent or (messages := queue_length()) is None:
        return []
    return silent[: max(0, announced - messages)]


def _announce(job_ids: Sequence[str]) -> int:
    sent = 0
    for job_id in job_ids:
        if announce(job_id):
            sent += 1
    if sent:
        _log.info("resent %s wake-up messages", sent)
    return sent


def end_lost_attempts() -> None:
    """End the attempts of which the lease ran out."""
    with read_session() as session:
        lost = session.execute(
            select(Job.id, Job.attempt)
            .where(Job.status.in_(_HELD), Job.lease_expires_at < time.time())
            .limit(PASS_LIMIT)
        ).all()
    for job_id, attempt in lost:
        _end_lost_attempt(job_id, attempt)


def _end_lost_attempt(job_id: str, attempt: int) -> None:
    with write_session() as session:
        job = session.scalars(
            select(Job)
            .where(
                Job.id == job_id,
                Job.attempt == attempt,
                Job.status.in_(_HELD),
                Job.lease_expires_at < time.time(),
            )
            # Who has it locked is its worker, which writes, or another reconciler.
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if job is None:
            return  # its worker is back, or another reconciler was faster
        cause = f"its worker {job.lease_owner} has not been heard from"
        status = end_attempt(session, job, Ending(Outcome.LOST, cause, Cause.LOST_HOST, detail=cause))
    _log.warning("%s: attempt %s is lost, %s; the job is %s now", job_id, attempt, cause, status)


def cancel_queued() -> None:
    """Cancel queued jobs that are to be cancelled: the flag came while their last attempt ended."""
    with read_session() as session:
        ids = session.scalars(
            select(Job.id).where(Job.status == _QUEUED, Job.cancel_requested.is_(True)).limit(PASS_LIMIT)
        ).all()
    for job_id in ids:
        with write_session() as session:
            job = session.scalars(
                select(Job).where(Job.id == job_id, Job.status == _QUEUED).with_for_update()
            ).one_or_none()
            if job is not None:
                change_status(session, job, JobStatus.CANCELLED, message="The job has been cancelled.")
