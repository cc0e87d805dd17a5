"""``/v1/fine_tuning/jobs``."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.errors import BadRequest
from app.core.job_status import JobStatus
from app.core.paging import After, Limit, page
from app.core.parameters import IdempotencyKey, JobId
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN
from app.core.validation import abbreviated
from app.jobs import service
from app.jobs.creation import create_job, validate_job
from app.jobs.deletion import delete_job
from app.jobs.objects import JobDeleted, JobObject, JobValidation, Timeline
from app.jobs.repository import Listing, Sort
from app.jobs.retrieval import job_text
from app.jobs.schemas import CreateJob, UpdateJob
from app.jobs.timeline import timeline

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=StrictRoute)


@router.post("", operation_id="create_job", **answers(JobObject), **TRAIN)
def create(body: CreateJob, project: ProjectId, idempotency_key: IdempotencyKey = None) -> dict[str, object]:
    """Create a fine-tuning job and queue it."""
    return create_job(project, body, idempotency_key)


@router.post("/validate", operation_id="validate_job", **answers(JobValidation), **TRAIN)
def validate(body: CreateJob, project: ProjectId) -> dict[str, object]:
    """Check a job without creating it.

    The answer is what ``POST`` would create from the same body, or the error it would return.
    """
    return validate_job(project, body)


@router.get("", **answers(ListOf[JobObject]), **READ)
def list_jobs(
    request: Request,
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    metadata: Annotated[
        str | None,
        Query(description="metadata[key]=value: only jobs with that pair; null: only jobs without metadata"),
    ] = None,
    status: Annotated[list[JobStatus], Query(description="Only jobs with this status; may be repeated")] = [],  # noqa: B006 (FastAPI copies it)
    search: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Words to find in name, id, model, algorithm, tags or note; case is ignored",
        ),
    ] = None,
    sort: Annotated[
        Sort,
        Query(
            description="What to sort by; rewards are those of the latest training step, and jobs without "
            "one sort lowest"
        ),
    ] = "created_at",
    order: Annotated[Literal["asc", "desc"], Query(description="desc: newest, or last, first")] = "desc",
) -> Response:
    """List jobs, by default newest first."""
    wanted = _metadata_filter(request, metadata)
    listing = Listing(wanted, status, tuple((search or "").split()), sort, order == "desc")
    jobs = service.listing(project, listing, after=after, limit=limit)
    return page(jobs, limit)


@router.get("/{fine_tuning_job_id}", operation_id="retrieve_job", **answers(JobObject), **READ)
async def retrieve(fine_tuning_job_id: JobId, request: Request, project: ProjectId) -> Response:
    """Get a job with its status and progress."""
    text = await job_text(request.state.quick_reads, project, fine_tuning_job_id)
    return Response(text, media_type="application/json")


@router.post("/{fine_tuning_job_id}", operation_id="update_job", **answers(JobObject), **TRAIN)
def update(fine_tuning_job_id: JobId, body: UpdateJob, project: ProjectId) -> dict[str, object]:
    """Change a job's note, tags and metadata.

    This is possible at any time and does not affect the run. Fields left out stay.
    """
    return service.update(project, fine_tuning_job_id, body)


@router.get("/{fine_tuning_job_id}/timeline", **answers(Timeline), **READ)
def get_timeline(fine_tuning_job_id: JobId, project: ProjectId) -> dict[str, object]:
    """Get a job's timeline along its steps.

    Attempts and the latest messages, each with the last step done by then.
    """
    return timeline(project, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/cancel", operation_id="cancel_job", **answers(JobObject), **TRAIN)
def cancel(fine_tuning_job_id: JobId, project: ProjectId) -> dict[str, object]:
    """Cancel a job for good.

    A running job stops within seconds; what it has saved is kept.
    """
    return service.cancel(project, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/pause", operation_id="pause_job", **answers(JobObject), **TRAIN)
def pause(fine_tuning_job_id: JobId, project: ProjectId) -> dict[str, object]:
    """Pause a job so that it can be resumed later.

    Meanwhile its last checkpoint can be used.
    """
    return service.pause(project, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/resume", operation_id="resume_job", **answers(JobObject), **TRAIN)
def resume(fine_tuning_job_id: JobId, project: ProjectId) -> dict[str, object]:
    """Resume a paused job from its last checkpoint."""
    return service.resume(project, fine_tuning_job_id)


@router.delete("/{fine_tuning_job_id}", operation_id="delete_job", **answers(JobDeleted), **TRAIN)
def delete(fine_tuning_job_id: JobId, project: ProjectId) -> dict[str, object]:
    """Delete a job that has ended, with everything it made.

    This deletes its checkpoints, results, events, metrics and rollouts.
    """
    return delete_job(project, fine_tuning_job_id)


def _metadata_filter(request: Request, whole: str | None) -> dict[str, str] | None:
    """The pairs to look for; None asks for jobs without metadata."""
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata["):
            if not name.endswith("]"):
                raise BadRequest(
                    f"Invalid query parameter '{name[:80]}': write metadata[key]=value.", param="metadata"
                )
            pairs[name[len("metadata[") : -1]] = value
    if whole is None:
        return pairs
    if whole != "null" or pairs:
        raise BadRequest(
            f"Invalid value for 'metadata': {abbreviated(whole)}. Write metadata[key]=value, or "
            "metadata=null alone for jobs without metadata.",
            param="metadata",
        )
    return None
