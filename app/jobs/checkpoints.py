"""``/v1/fine_tuning/jobs/{id}/checkpoints``: a job's checkpoints."""

from collections.abc import Mapping

from fastapi import APIRouter, Response
from sqlalchemy import select

from app.checkpoints import repository
from app.checkpoints.objects import CheckpointObject
from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page, unknown_cursor
from app.core.parameters import JobId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.core.strict_json import JsonObject
from app.core.tables import Checkpoint, Job
from app.jobs.losses import learns_from_rows, losses
from app.jobs.service import found

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["checkpoints"], route_class=StrictRoute)


@router.get("/{fine_tuning_job_id}/checkpoints", **answers(ListOf[CheckpointObject]), **READ)
def list_checkpoints(
    fine_tuning_job_id: JobId, project: ProjectId, after: After = None, limit: Limit = 10
) -> Response:
    """List a job's checkpoints, latest first.

    Each can be queried in both modes.
    """
    return page(listing(project, fine_tuning_job_id, after=after, limit=limit), limit)


def listing(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 checkpoint objects, the latest step first."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        step = None
        if after is not None:
            known = select(Checkpoint.step).where(Checkpoint.id == after, Checkpoint.job_id == job.id)
            if (step := session.scalar(known)) is None:
                raise unknown_cursor(after)
        rows = repository.listing(session, job.id, below_step=step, limit=limit + 1)
        chosen = repository.result_checkpoint(session, job.id)
        return [_view(row, job, is_result=chosen is not None and row.id == chosen.id) for row in rows]


def _by_openai(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that have a name of OpenAI's."""
    if not learns_from_rows(metrics):
        return {}
    return {name: value for name, value in losses(metrics).items() if value is not None}


def _view(checkpoint: Checkpoint, job: Job, *, is_result: bool) -> JsonObject:
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(checkpoint.created_at),
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job_id,
        "step_number": checkpoint.step,
        "is_result": is_result,
        "result_reason": job.result_reason if is_result else None,
        "metrics": {"step": checkpoint.step, **_by_openai(checkpoint.metrics), **checkpoint.metrics},
        "high_entropy_prompt": checkpoint.high_entropy_prompt,
        "high_entropy_placement": checkpoint.high_entropy_placement,
        "chat_template_kwargs": checkpoint.chat_template_kwargs,
    }
