"""What can be done with jobs that are there: list them, cancel, pause, resume."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.db import read_session, write_session
from app.errors import BadRequest, NotFound
from app.jobs import repository
from app.jobs.status import JobStatus, add_event, change_status, is_terminal
from app.jobs.views import event_view, job_views
from app.paging import unknown_cursor
from app.queue import announce
from app.tables import Job

_S = JobStatus
_WAITING = (_S.QUEUED, _S.PAUSED)


def listing(
    project_id: str,
    *,
    after: str | None,
    limit: int,
    metadata: Mapping[str, str] | None,
    statuses: Sequence[JobStatus] = (),
) -> list[dict[str, Any]]:
    """Up to ``limit`` + 1 job objects, newest first."""
    with read_session() as session:
        jobs = repository.listing(
            session, project_id, after=after, limit=limit + 1, metadata=metadata, statuses=statuses
        )
        if after is not None and not jobs and repository.find(session, project_id, after) is None:
            raise unknown_cursor(after)
        return job_views(session, jobs)


def cancel(project_id: str, job_id: str) -> dict[str, Any]:
    """Cancel at once what waits; ask the worker of what runs, which takes seconds."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        if is_terminal(job.status):
            raise _cannot("cancel", job, "only a job that has not finished can be cancelled")
        if job.status in _WAITING:
            change_status(session, job, _S.CANCELLED, message="The job has been cancelled.")
        elif not job.cancel_requested:
            job.cancel_requested = True
            add_event(session, job.id, "info", "message", "Cancellation requested; the worker is stopping.")
        return job_views(session, [job])[0]


def pause(project_id: str, job_id: str) -> dict[str, Any]:
    """Pause at once what is queued; have what runs write a checkpoint and stop."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        if job.status == _S.QUEUED:
            change_status(session, job, _S.PAUSED, message="The job has been paused before it ran.")
        elif job.status in (_S.VALIDATING_FILES, _S.RUNNING) and not job.cancel_requested:
            job.pause_requested = True
            text = "Pause requested; the worker saves a checkpoint and stops."
            change_status(session, job, _S.PAUSING, message=text)
        elif job.status not in (_S.PAUSING, _S.PAUSED):
            raise _cannot("pause", job, "only a job that is queued or running can be paused")
        return job_views(session, [job])[0]


def resume(project_id: str, job_id: str) -> dict[str, Any]:
    """Queue a paused job again; it goes on from its last checkpoint."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        if job.status != _S.PAUSED:
            raise _cannot("resume", job, "only a paused job can be resumed")
        job.not_before = 0.0
        job.budget_step, job.budget_seconds = job.step, 0.0
        change_status(session, job, _S.QUEUED, message="The job has been resumed and is queued.")
        view = job_views(session, [job])[0]
    announce(job_id)
    return view


def events(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` + 1 events, newest first."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        before = None
        if after is not None and (before := repository.find_event(session, job.id, after)) is None:
            raise unknown_cursor(after)
        return [event_view(one) for one in repository.events_before(session, job.id, before, limit + 1)]


def found(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Job:
    """The job's row; raises NotFound."""
    job = repository.find(session, project_id, job_id, lock=lock)
    if job is None:
        raise no_such_job(job_id)
    return job


def no_such_job(job_id: str) -> NotFound:
    """The error for an id that names no job of the project."""
    return NotFound(f"No such fine-tuning job: '{job_id}'.", param="fine_tuning_job_id")


def _cannot(action: str, job: Job, rule: str) -> BadRequest:
    status = "about to be cancelled" if job.cancel_requested and not is_terminal(job.status) else job.status
    return BadRequest(
        f"Cannot {action} job '{job.id}': it is {status}, and {rule}.",
        param="fine_tuning_job_id",
        code="invalid_job_status",
    )
