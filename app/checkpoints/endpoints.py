"""``/v1/fine_tuning/jobs/{id}/checkpoints``."""

from fastapi import APIRouter

from app.auth import ProjectId
from app.checkpoints import service
from app.checkpoints.objects import CheckpointObject
from app.description import ListOf, answers
from app.paging import After, Page, page
from app.paging import Limit as PageLimit
from app.requests import StrictRoute

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["checkpoints"], route_class=StrictRoute)


@router.get("/{fine_tuning_job_id}/checkpoints", **answers(ListOf[CheckpointObject]))
def list_checkpoints(
    fine_tuning_job_id: str, project: ProjectId, after: After = None, limit: PageLimit = 10
) -> Page:
    """A job's checkpoints, the latest first. Each can be asked in both modes."""
    return page(service.listing(project, fine_tuning_job_id, after=after, limit=limit), limit)
