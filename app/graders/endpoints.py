"""``/v1/fine_tuning/alpha/graders``."""

from typing import Any

from fastapi import APIRouter

from app.auth import ProjectId
from app.description import answers
from app.graders import service
from app.graders.schemas import GraderRun, RunGrader, ValidateGrader, ValidGrader
from app.requests import StrictRoute

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"], route_class=StrictRoute)


@router.post("/run")
def run(body: RunGrader, _project: ProjectId) -> GraderRun:
    """Grade one response. An error of the grader shows in ``metadata``; the reward is 0 then."""
    return service.run(body)


@router.post("/validate", **answers(ValidGrader))
def validate(body: ValidateGrader, _project: ProjectId) -> dict[str, Any]:
    """The definition as it was given, if a job could be created with it."""
    return service.validate(body)
