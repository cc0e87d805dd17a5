"""``POST /v1/fine_tuning/jobs/estimate`` and ``/v1/fine_tuning/estimates/{id}``."""

from fastapi import APIRouter

from app.core.auth import ProjectId
from app.core.description import answers
from app.core.parameters import EstimateId
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN
from app.estimates import service
from app.estimates.objects import EstimateObject
from app.jobs.schemas import CreateJob

router = APIRouter(prefix="/v1/fine_tuning", tags=["fine-tuning jobs"], route_class=StrictRoute)


@router.post("/jobs/estimate", status_code=202, **answers(EstimateObject, status=202), **TRAIN)
def create_estimate(body: CreateJob, project: ProjectId) -> dict[str, object]:
    """Estimate what a job would take, from two steps run by a worker.

    The answer comes at once; the result is in the estimate once its status is succeeded.
    """
    return service.create(project, body)


@router.get("/estimates/{estimate_id}", **answers(EstimateObject), **READ)
def retrieve_estimate(estimate_id: EstimateId, project: ProjectId) -> dict[str, object]:
    """Get an estimate.

    ``result`` is set once it has succeeded.
    """
    return service.retrieve(project, estimate_id)
