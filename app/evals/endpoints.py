"""``/v1/evals``: the routes of the SDK's ``client.evals``, and ours to pause, resume and compare runs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import EvalId, EvalRunId, IdempotencyKey, OutputItemId
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN
from app.evals import objects, runs, service
from app.evals.comparison import EvalComparison, compare
from app.evals.creation import create as make_run
from app.evals.schemas import CreateEval, CreateEvalRun, ItemStatus, Order, RunStatus, UpdateEval

router = APIRouter(prefix="/v1/evals", tags=["evals"], route_class=StrictRoute)

OrderBy = Annotated[Literal["created_at", "updated_at"], Query(description="What to sort by")]
Ordered = Annotated[Order, Query(description="asc: oldest, or first, first; desc: newest first")]


@router.post("", operation_id="create_eval", **answers(objects.EvalObject), **TRAIN)
def create(body: CreateEval, project: ProjectId, idempotency_key: IdempotencyKey = None) -> dict[str, object]:
    """Create an eval: the schema of its items, and the criteria that grade answers."""
    return service.create(project, body, idempotency_key)


@router.get("", **answers(ListOf[objects.EvalObject]), **READ)
def list_evals(
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    order: Ordered = "asc",
    order_by: OrderBy = "created_at",
) -> Response:
    """List evals, by default oldest first."""
    found = service.listing(project, after=after, limit=limit, order=order, order_by=order_by)
    return page(found, limit)


@router.get("/{eval_id}", operation_id="retrieve_eval", **answers(objects.EvalObject), **READ)
def retrieve(eval_id: EvalId, project: ProjectId) -> dict[str, object]:
    """Get an eval."""
    return service.retrieve(project, eval_id)


@router.post("/{eval_id}", operation_id="update_eval", **answers(objects.EvalObject), **TRAIN)
def update(eval_id: EvalId, body: UpdateEval, project: ProjectId) -> dict[str, object]:
    """Change an eval's name and metadata.

    Fields left out stay; its criteria never change, because its runs are compared by them.
    """
    return service.change(project, eval_id, body)


@router.delete("/{eval_id}", operation_id="delete_eval", **answers(objects.EvalDeleted), **TRAIN)
def delete(eval_id: EvalId, project: ProjectId) -> dict[str, object]:
    """Delete an eval and all of its runs, which must have ended."""
    return service.delete(project, eval_id)


@router.post("/{eval_id}/runs", status_code=201, **answers(objects.EvalRunObject, status=201), **TRAIN)
def create_eval_run(
    eval_id: EvalId,
    body: CreateEvalRun,
    request: Request,
    project: ProjectId,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, object]:
    """Run an eval on rows: have a model answer them, or grade existing answers.

    Every row is checked first; a worker does the rest.
    """
    return make_run(project, eval_id, body, idempotency_key, str(request.base_url))


@router.get("/{eval_id}/runs", **answers(ListOf[objects.EvalRunObject]), **READ)
def list_eval_runs(
    eval_id: EvalId,
    request: Request,
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    order: Ordered = "asc",
    status: Annotated[RunStatus | None, Query(description="Only runs with this status")] = None,
) -> Response:
    """List an eval's runs, by default oldest first."""
    found = runs.listing(
        project, eval_id, after=after, limit=limit, order=order, status=status, page=str(request.base_url)
    )
    return page(found, limit)


@router.get("/{eval_id}/compare", **answers(EvalComparison), **READ)
def compare_eval_runs(
    eval_id: EvalId,
    project: ProjectId,
    runs: Annotated[
        list[str] | None,
        Query(description="Ids of up to 10 runs, the baseline first; default: the oldest completed ones"),
    ] = None,
    metric: Annotated[
        str, Query(description="passed: the share of items that pass; or a criterion's name, for its reward")
    ] = "passed",
) -> dict[str, object]:
    """Compare runs of an eval with the first of them, item by item.

    Differences are paired by item, and p-values corrected for the number of comparisons.
    """
    return compare(project, eval_id, runs, metric)


@router.get("/{eval_id}/runs/{run_id}", **answers(objects.EvalRunObject), **READ)
def retrieve_eval_run(
    eval_id: EvalId, run_id: EvalRunId, request: Request, project: ProjectId
) -> dict[str, object]:
    """Get an eval run with its progress and counts."""
    return runs.retrieve(project, eval_id, run_id, str(request.base_url))


@router.post("/{eval_id}/runs/{run_id}/cancel", **answers(objects.EvalRunObject), **TRAIN)
def cancel_eval_run(
    eval_id: EvalId, run_id: EvalRunId, request: Request, project: ProjectId
) -> dict[str, object]:
    """Cancel an eval run for good.

    One in progress stops within seconds; finished items are kept.
    """
    return runs.cancel(project, eval_id, run_id, str(request.base_url))


@router.post("/{eval_id}/runs/{run_id}/pause", **answers(objects.EvalRunObject), **TRAIN)
def pause_eval_run(
    eval_id: EvalId, run_id: EvalRunId, request: Request, project: ProjectId
) -> dict[str, object]:
    """Pause an eval run so that it can be resumed later."""
    return runs.pause(project, eval_id, run_id, str(request.base_url))


@router.post("/{eval_id}/runs/{run_id}/resume", **answers(objects.EvalRunObject), **TRAIN)
def resume_eval_run(
    eval_id: EvalId, run_id: EvalRunId, request: Request, project: ProjectId
) -> dict[str, object]:
    """Resume a paused eval run with the remaining items."""
    return runs.resume(project, eval_id, run_id, str(request.base_url))


@router.delete("/{eval_id}/runs/{run_id}", **answers(objects.EvalRunDeleted), **TRAIN)
def delete_eval_run(eval_id: EvalId, run_id: EvalRunId, project: ProjectId) -> dict[str, object]:
    """Delete an eval run that has ended, and its items."""
    return runs.delete(project, eval_id, run_id)


@router.get("/{eval_id}/runs/{run_id}/output_items", **answers(ListOf[objects.OutputItemObject]), **READ)
def list_output_items(
    eval_id: EvalId,
    run_id: EvalRunId,
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    order: Ordered = "asc",
    status: Annotated[
        ItemStatus | None, Query(description="Only items with this result; error is ours")
    ] = None,
) -> Response:
    """List a run's output items, in the order of their source."""
    found = runs.items(project, eval_id, run_id, after=after, limit=limit, order=order, status=status)
    return page(found, limit)


@router.get(
    "/{eval_id}/runs/{run_id}/output_items/{output_item_id}", **answers(objects.OutputItemObject), **READ
)
def retrieve_output_item(
    eval_id: EvalId, run_id: EvalRunId, output_item_id: OutputItemId, project: ProjectId
) -> dict[str, object]:
    """Get one output item of a run."""
    return runs.item(project, eval_id, run_id, output_item_id)
