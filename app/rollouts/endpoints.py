"""``/v1/fine_tuning/jobs/{id}/rollouts`` and ``rollouts.jsonl``."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from app.core.auth import ProjectId
from app.core.description import ListOf, answers, answers_text
from app.core.paging import After, Limit, page
from app.core.parameters import JobId, RolloutId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.rollouts import service
from app.rollouts.filters import Filter
from app.rollouts.objects import RolloutDetails, RolloutObject
from trainer.spec.modes import Mode

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["rollouts"], route_class=StrictRoute)

Step = Annotated[int | None, Query(ge=0, lt=2**31, description="Only responses of this step")]


@router.get("/{fine_tuning_job_id}/rollouts", **answers(ListOf[RolloutObject]), **READ)
def list_rollouts(
    fine_tuning_job_id: JobId,
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    step: Step = None,
    group: Annotated[
        int | None,
        Query(ge=0, lt=2**31, description="Only responses to the prompt at this position in its step"),
    ] = None,
    mode: Annotated[Mode | None, Query(description="Only responses sampled in this mode")] = None,
    item: Annotated[
        int | None,
        Query(ge=0, lt=2**63, description="Only responses to this item of the training data, from 0"),
    ] = None,
    min_reward: Annotated[
        float | None, Query(allow_inf_nan=False, description="Only responses with at least this reward")
    ] = None,
    max_reward: Annotated[
        float | None, Query(allow_inf_nan=False, description="Only responses with at most this reward")
    ] = None,
    graded: Annotated[
        bool | None, Query(description="false: only responses that the grader failed on")
    ] = None,
    search: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Only where prompt or response contains this text; case is ignored",
        ),
    ] = None,
) -> Response:
    """List the responses that a job sampled, in sampling order."""
    wanted = Filter(
        step=step,
        group=group,
        mode=mode.value if mode else None,
        item=item,
        min_reward=min_reward,
        max_reward=max_reward,
        graded=graded,
        search=search,
    )
    return page(service.listing(project, fine_tuning_job_id, wanted, after=after, limit=limit), limit)


@router.get(
    "/{fine_tuning_job_id}/rollouts.jsonl",
    **answers_text("One response per line, in the format of a single response", "application/jsonl"),
    **READ,
)
def get_rollouts_jsonl(fine_tuning_job_id: JobId, project: ProjectId, step: Step = None) -> StreamingResponse:
    """Download all responses that a job sampled, token by token.

    JSON, one response per line, in sampling order, including archived ones.
    """
    return StreamingResponse(
        service.jsonl_lines(project, fine_tuning_job_id, step),
        media_type="application/jsonl",
        headers={"content-disposition": f'attachment; filename="{fine_tuning_job_id}-rollouts.jsonl"'},
    )


@router.get("/{fine_tuning_job_id}/rollouts/{rollout_id}", **answers(RolloutDetails), **READ)
def retrieve_rollout(
    fine_tuning_job_id: JobId, rollout_id: RolloutId, project: ProjectId
) -> dict[str, object]:
    """Get a sampled response, token by token."""
    return service.retrieve(project, fine_tuning_job_id, rollout_id)
