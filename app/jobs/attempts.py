"""``/v1/fine_tuning/jobs/{id}/attempts``: who worked on a job, and why each attempt ended."""

from fastapi import APIRouter, Response
from sqlalchemy import select

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page, unknown_cursor
from app.core.parameters import JobId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.core.strict_json import JsonObject
from app.core.tables import JobAttempt
from app.jobs.objects import AttemptObject
from app.jobs.service import found

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=StrictRoute)


@router.get("/{fine_tuning_job_id}/attempts", **answers(ListOf[AttemptObject]), **READ)
def list_attempts(
    fine_tuning_job_id: JobId, project: ProjectId, after: After = None, limit: Limit = 20
) -> Response:
    """List a job's attempts, newest first.

    An attempt is one worker's try at the job; outcome and cause say why it ended.
    """
    return page(listing(project, fine_tuning_job_id, after=after, limit=limit), limit)


def listing(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 attempt objects, newest first."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        query = select(JobAttempt).where(JobAttempt.job_id == job.id)
        if after is not None:
            query = query.where(JobAttempt.attempt < _number(after, job.id))
        rows = session.scalars(query.order_by(JobAttempt.attempt.desc()).limit(limit + 1))
        return [_view(row) for row in rows]


def _number(after: str, job_id: str) -> int:
    job, _, number = after.rpartition("/")
    if job != job_id or not number.isdecimal() or len(number) > 9:
        raise unknown_cursor(after)
    return int(number)


def _view(attempt: JobAttempt) -> JsonObject:
    return {
        "id": f"{attempt.job_id}/{attempt.attempt}",
        "object": "fine_tuning.job.attempt",
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "started_at": int(attempt.started_at),
        "ended_at": None if attempt.ended_at is None else int(attempt.ended_at),
        "outcome": attempt.outcome,
        "cause": attempt.cause,
        "message": attempt.message,
        "log": attempt.detail,
    }
