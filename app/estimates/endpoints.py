"""``POST /v1/fine_tuning/jobs/estimate`` and ``/v1/fine_tuning/estimates/{id}``."""

from typing import Any

from fastapi import APIRouter

from app.auth import ProjectId
from app.description import answers
from app.estimates import service
from app.estimates.objects import EstimateObject
from app.jobs.schemas import CreateJob
from app.requests import StrictRoute

router = APIRouter(prefix="/v1/fine_tuning", tags=["fine-tuning jobs"], route_class=StrictRoute)


@router.post("/jobs/estimate", status_code=202, **answers(EstimateObject, status=202))
def create_estimate(body: CreateJob, project: ProjectId) -> dict[str, Any]:
    """Have a worker try two steps of a job, and reckon from them what all of it would take."""
    return service.create(project, body)


@router.get("/estimates/{estimate_id}", **answers(EstimateObject))
def retrieve_estimate(estimate_id: str, project: ProjectId) -> dict[str, Any]:
    """An estimate; ``result`` is there once it has succeeded."""
    return service.retrieve(project, estimate_id)
