"""What can be done with existing jobs: list, cancel, pause, resume."""

from sqlalchemy.orm import Session

from app.accounting.limits import check_gpu_hours
from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.job_log import add_event
from app.core.job_status import JobStatus, is_terminal
from app.core.paging import unknown_cursor
from app.core.queue import announce
from app.core.tables import Job
from app.jobs import repository
from app.jobs.naming import words_of
from app.jobs.schemas import UpdateJob
from app.jobs.status import change_status
from app.jobs.views import event_view, job_views

_S = JobStatus
_WAITING = (_S.QUEUED, _S.PAUSED)


def listing(
    project_id: str, wanted: repository.Listing, *, after: str | None, limit: int
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 job objects."""
    with read_session() as session:
        jobs = repository.listing(session, project_id, wanted, after=after, limit=limit + 1)
        if after is not None and not jobs and repository.find(session, project_id, after) is None:
            raise unknown_cursor(after)
        return job_views(session, jobs)


def update(project_id: str, job_id: str, request: UpdateJob) -> dict[str, object]:
    """Change a job's note, tags and metadata, as far as ``request`` has them."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        given = request.model_dump(exclude_unset=True)
        for field, column in (("note", "note"), ("tags", "tags"), ("metadata", "user_metadata")):
            if field in given:
                setattr(job, column, given[field] or None)
        job.words = words_of(job)
        record(session, "job.updated", job.id, project_id, fields=sorted(given))
        return job_views(session, [job])[0]


def cancel(project_id: str, job_id: str) -> dict[str, object]:
    """Cancel a waiting job at once; ask a running one's worker, which takes seconds."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        if is_terminal(job.status):
            raise _cannot("cancel", job, "only a job that has not finished can be cancelled")
        record(session, "job.cancelled", job.id, project_id, status=job.status)
        if job.status in _WAITING:
            change_status(session, job, _S.CANCELLED, message="The job has been cancelled.")
        elif not job.cancel_requested:
            job.cancel_requested = True
            add_event(session, job.id, "info", "message", "Cancellation requested; the worker is stopping.")
        return job_views(session, [job])[0]


def pause(project_id: str, job_id: str) -> dict[str, object]:
    """Pause a queued job at once; have a running one write a checkpoint and stop."""
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
        record(session, "job.paused", job.id, project_id)
        return job_views(session, [job])[0]


def resume(project_id: str, job_id: str) -> dict[str, object]:
    """Queue a paused job again; it resumes from its last checkpoint."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        if job.status != _S.PAUSED:
            raise _cannot("resume", job, "only a paused job can be resumed")
        job.not_before = 0.0
        job.budget_step, job.budget_seconds = job.step, 0.0
        check_gpu_hours(session, project_id)
        record(session, "job.resumed", job.id, project_id)
        change_status(session, job, _S.QUEUED, message="The job has been resumed and is queued.")
        view = job_views(session, [job])[0]
    announce(job_id)
    return view


def events(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
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
