"""``/v1/fine_tuning/alpha/graders``."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.core.auth import ProjectId
from app.core.description import answers
from app.core.requests import StrictRoute
from app.core.scopes import TRAIN
from app.core.streaming import ClientGone, WhileConnected
from app.graders import service
from app.graders.schemas import GraderRun, RunGrader, ValidateGrader, ValidGrader

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"], route_class=StrictRoute)


@router.post("/run", operation_id="run_grader", **answers(GraderRun), **TRAIN)
async def run(body: RunGrader, request: Request, project: ProjectId) -> Any:
    """Run a grader on one response.

    If the grader fails, ``metadata`` has the error and the reward is 0.
    """
    try:
        async with WhileConnected(request.receive):
            graded = await request.state.grading.run(project, lambda check: service.run(body, check))
            request.state.gateway.meter.graded(project, 1)
            return graded
    except ClientGone:
        return Response(status_code=499)


@router.post("/validate", operation_id="validate_grader", **answers(ValidGrader), **TRAIN)
def validate(body: ValidateGrader, project: ProjectId) -> dict[str, object]:
    """Check whether a job could be created with a grader and, optionally, a file.

    The answer is the definition as given.
    """
    return service.validate(project, body)
