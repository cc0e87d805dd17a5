"""How an attempt ended, what that means for its job, and recording it in one fenced transaction.

=========  =====================================================  ==============================
outcome    when                                                   the job becomes
=========  =====================================================  ==============================
succeeded  finished all steps, final checkpoint registered        succeeded
failed     the trainer reports an error that a retry repeats      failed
cancelled  the user asked for it                                  cancelled
paused     the user asked for it, or the disk is full             paused
released   the worker stops: nobody's fault                       queued, at once
crashed    the trainer died or reports an internal error          queued with back-off, or failed
lost       the worker died: its lease ran out                     queued with back-off, or failed
=========  =====================================================  ==============================
"""

import signal
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounting.counting import count_attempt
from app.checkpoints.naming import model_id
from app.core.db import write_session
from app.core.job_log import Level
from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.tables import Job, JobAttempt
from app.files.service import create_result_file
from app.files.storage import StoredFile
from app.jobs.naming import words_of
from app.jobs.status import change_status
from trainer.spec.events import Failed, Finished, Stopped
from trainer.spec.resources import Resources
from worker.jobs.causes import Cause, cause_of
from worker.jobs.holding import hold
from worker.jobs.results import FILENAME
from worker.lease import Claim

#: Trainer failures that a retry may avoid.
RETRIED = ("internal_error", "engine_failed", "rank_lost", "host_lost", "cluster_failed")
MAX_BACKOFF_SECONDS = 300.0


class Outcome(StrEnum):
    """How an attempt ended: see the module's table."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RELEASED = "released"
    CRASHED = "crashed"
    LOST = "lost"


#: Those that count towards ``settings.max_attempts``.
CRASHES = (Outcome.CRASHED, Outcome.LOST)


class Asked(StrEnum):
    """Why the supervisor asked the trainer to stop, or ended it."""

    CANCEL = "cancel"
    PAUSE = "pause"
    SHUTDOWN = "shutdown"
    DISK = "disk"
    STALL = "stall"


@dataclass(frozen=True)
class Ending:
    """An attempt's outcome and what to report about it. ``detail`` is for operators, with the log's end."""

    outcome: Outcome
    message: str = ""
    cause: Cause = Cause.ERROR
    code: str = ""
    param: str | None = None
    detail: str | None = None
    trained_tokens: int | None = None
    result_step: int | None = None
    result_reason: str | None = None


def classify_ending(
    *,
    end: Finished | Stopped | Failed | None,
    exit_code: int,
    asked: Asked | None,
    planned_steps: int,
    final_checkpoint: bool,
    log_tail: str,
    killed_for_memory: bool = False,
) -> Ending:
    """The ending, from the trainer's last event, its exit and our own requests."""
    cause = cause_of(end, exit_code, killed_for_memory)
    if asked is Asked.CANCEL:
        return Ending(Outcome.CANCELLED, cause=Cause.USER)
    if isinstance(end, Finished):
        return _classify_finished(end, planned_steps, final_checkpoint)
    if cause is Cause.DISK_FULL or (asked is Asked.DISK and not isinstance(end, Failed)):
        return disk_full(end.step if isinstance(end, Stopped) else None, log_tail)
    if isinstance(end, Failed) and end.code not in RETRIED:
        return Ending(Outcome.FAILED, end.message, cause, end.code, end.param, detail=log_tail or None)
    if isinstance(end, Failed):
        return Ending(Outcome.CRASHED, end.message, cause, detail=log_tail or end.message)
    if asked is Asked.SHUTDOWN:
        return Ending(Outcome.RELEASED, cause=Cause.SHUTDOWN, detail=_describe_exit(exit_code))
    if asked is Asked.PAUSE:
        saved = f"after step {end.step}" if end else "without writing a new checkpoint"
        return Ending(Outcome.PAUSED, f"The job has been paused {saved}.", Cause.USER)
    if asked is Asked.STALL:
        text, cause = "the trainer made no progress and was ended", Cause.STALLED
    elif isinstance(end, Stopped):
        text = "something other than its worker told the trainer to stop"
    elif cause is Cause.OUT_OF_MEMORY:
        text = "the system ran out of memory and killed the trainer"
    else:
        text = f"the trainer {_describe_exit(exit_code)} without a result"
    return Ending(Outcome.CRASHED, text, cause, detail=f"{text}\n{log_tail}".strip())


def disk_full(step: int | None, detail: str | None = None) -> Ending:
    """A job that waits for room; ``step`` is what it could still save."""
    saved = f"after step {step}" if step is not None else "at its last checkpoint"
    text = f"The disk is full: the job has been paused {saved}. Free some space, then resume it."
    return Ending(Outcome.PAUSED, text, Cause.DISK_FULL, detail=detail or None)


def _classify_finished(end: Finished, planned_steps: int, final_checkpoint: bool) -> Ending:
    if end.step < planned_steps:
        text = f"The run ended after step {end.step} of the {planned_steps} steps that were planned."
        return Ending(Outcome.FAILED, text, code="incomplete_run", detail=text)
    if not final_checkpoint:
        text = f"The run did all {planned_steps} steps, but its final checkpoint is missing or damaged."
        return Ending(Outcome.FAILED, text, code="checkpoint_missing", detail=text)
    return Ending(
        Outcome.SUCCEEDED,
        cause=Cause.FINISHED,
        trained_tokens=end.trained_tokens,
        result_step=end.result_step,
        result_reason=end.reason,
    )


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    likely = ", probably because the system ran out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by signal {-code} ({name}{likely})"


def apply_ending(claim: Claim, ending: Ending, results: StoredFile | None = None) -> JobStatus:
    """Write the end of the claimed attempt; the job's new status. Raises LeaseLost, writing nothing."""
    with write_session() as session:
        job = hold(session, claim)
        return end_attempt(session, job, ending, results)


def end_attempt(session: Session, job: Job, ending: Ending, results: StoredFile | None = None) -> JobStatus:
    """End the attempt of a job whose row the caller has locked. A wish to cancel beats every outcome."""
    now = time.time()
    lease = job.lease_expires_at
    outcome = Outcome.CANCELLED if job.cancel_requested else ending.outcome
    crashes = _crashes(session, job.id) + 1
    if outcome in CRASHES and crashes < get_settings().max_attempts:
        _requeue(session, job, ending, crashes, now)
    elif outcome in CRASHES:
        times = f"{crashes} times, the last time " if crashes > 1 else ""
        code = "trainer_crashed" if outcome is Outcome.CRASHED else "worker_lost"
        _fail(
            session, job, code, f"The job's training ended unexpectedly {times}because {ending.message}.", now
        )
    elif outcome is Outcome.FAILED:
        _fail(session, job, ending.code, ending.message, now, ending.param)
    elif outcome is Outcome.SUCCEEDED:
        _succeed(session, job, ending, results, now)
    elif outcome is Outcome.CANCELLED:
        change_status(session, job, JobStatus.CANCELLED, message="The job has been cancelled.", now=now)
    elif outcome is Outcome.PAUSED:
        _pause(session, job, ending, now)
    else:
        job.not_before = now
        text = "The worker is shutting down; the job resumes as soon as a worker is free."
        change_status(session, job, JobStatus.QUEUED, message=text, now=now)
    # Of a worker that was lost its lease says how long it was there.
    count_attempt(session, job, until=min(now, lease or now) if ending.outcome is Outcome.LOST else now)
    attempt = session.get_one(JobAttempt, (job.id, job.attempt))
    attempt.ended_at, attempt.outcome, attempt.detail = now, outcome.value, ending.detail
    attempt.cause = (Cause.USER if outcome is Outcome.CANCELLED else ending.cause).value
    attempt.message = ending.message or None
    return JobStatus(job.status)


def _succeed(session: Session, job: Job, ending: Ending, results: StoredFile | None, now: float) -> None:
    job.fine_tuned_model = model_id(
        model=job.model,
        organization=get_settings().organization,
        suffix=job.suffix,
        job_id=job.id,
    )
    job.words = words_of(job)
    job.trained_tokens = ending.trained_tokens
    job.result_step, job.result_reason = ending.result_step, ending.result_reason
    if results is not None:
        file = create_result_file(session, project_id=job.project_id, filename=FILENAME, stored=results)
        job.result_files = [file.id]
    job.step = job.total_steps
    text = f"The job has completed successfully. New fine-tuned model created: {job.fine_tuned_model}"
    data: dict[str, object] = {}
    if ending.result_step is not None:
        text += f". It is the checkpoint of step {ending.result_step}: {ending.result_reason}."
        data = {"result_step": ending.result_step, "reason": ending.result_reason}
    change_status(session, job, JobStatus.SUCCEEDED, message=text, data=data, now=now)


def _fail(session: Session, job: Job, code: str, message: str, now: float, param: str | None = None) -> None:
    error: dict[str, object] = {"code": code, "message": message, "param": param}
    job.error = error
    text = f"The job failed: {message}"
    change_status(session, job, JobStatus.FAILED, message=text, level="error", data=error, now=now)


def _pause(session: Session, job: Job, ending: Ending, now: float) -> None:
    level: Level = "error" if ending.cause is Cause.DISK_FULL else "info"
    if job.status != JobStatus.PAUSING:  # nobody asked for it
        change_status(session, job, JobStatus.PAUSING, message="The job is being paused.", now=now)
    data = {"cause": ending.cause.value}
    change_status(session, job, JobStatus.PAUSED, message=ending.message, level=level, data=data, now=now)


def _requeue(session: Session, job: Job, ending: Ending, crashes: int, now: float) -> None:
    settings = get_settings()
    wait = min(settings.retry_backoff_seconds * 2 ** (crashes - 1), MAX_BACKOFF_SECONDS)
    job.not_before = now + wait
    least = Resources.model_validate(job.run_spec.get("resources") or {}).min_gpus
    if least is not None:
        job.least_gpus = min(job.least_gpus, least)
    text = (
        f"Attempt {job.attempt} ended unexpectedly because {ending.message}; the job restarts from its "
        f"last checkpoint in {wait:.0f} s (crash {crashes} of at most {settings.max_attempts})."
    )
    change_status(session, job, JobStatus.QUEUED, message=text, level="warn", now=now)


def _crashes(session: Session, job_id: str) -> int:
    """How many of the job's attempts ended in a crash so far."""
    return (
        session.scalar(
            select(func.count())
            .select_from(JobAttempt)
            .where(
                JobAttempt.job_id == job_id, JobAttempt.outcome.in_([outcome.value for outcome in CRASHES])
            )
        )
        or 0
    )
