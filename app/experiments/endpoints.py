"""``/v1/experiments``."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query
from fastapi.responses import JSONResponse, Response

from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import ExperimentId, IdempotencyKey
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN
from app.experiments import results, service
from app.experiments.expansion import start_runs
from app.experiments.objects import (
    ExperimentObject,
    ExperimentValidation,
    ExperimentWithRuns,
    ReportObject,
)
from app.experiments.page import REPORT_POLICY, report_page
from app.experiments.schemas import CreateExperiment, ExtendExperiment, ReportFormat
from app.experiments.table import report_csv

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=StrictRoute)


@router.post("", operation_id="create_experiment", **answers(ExperimentWithRuns), **TRAIN)
def create(
    body: CreateExperiment,
    project: ProjectId,
    background: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, object]:
    """Create an experiment that compares arms on tasks with seeds.

    Each combination becomes a job.
    """
    experiment = service.create(project, body, idempotency_key)
    # Workers do it as well: this only saves waiting for their next look.
    background.add_task(start_runs, experiment["id"])
    return experiment


@router.post("/validate", operation_id="validate_experiment", **answers(ExperimentValidation), **TRAIN)
def validate(body: CreateExperiment, project: ProjectId) -> dict[str, object]:
    """Check an experiment without creating it, and count its runs.

    The answer is what ``POST /v1/experiments`` would create from the same body, or the error it would
    return.
    """
    return service.validate(project, body)


@router.get("", **answers(ListOf[ExperimentObject]), **READ)
def list_experiments(project: ProjectId, after: After = None, limit: Limit = 20) -> Response:
    """List experiments, newest first, without their runs."""
    return page(service.listing(project, after=after, limit=limit), limit)


@router.get("/{experiment_id}", operation_id="retrieve_experiment", **answers(ExperimentWithRuns), **READ)
def retrieve(experiment_id: ExperimentId, project: ProjectId) -> dict[str, object]:
    """Get an experiment with all of its runs."""
    return service.retrieve(project, experiment_id)


@router.post(
    "/{experiment_id}/extend", operation_id="extend_experiment", **answers(ExperimentWithRuns), **TRAIN
)
def extend(
    experiment_id: ExperimentId, body: ExtendExperiment, project: ProjectId, background: BackgroundTasks
) -> dict[str, object]:
    """Add seeds or arms to an experiment.

    Existing runs stay.
    """
    experiment = service.extend(project, experiment_id, body)
    background.add_task(start_runs, experiment_id)
    return experiment


@router.post("/{experiment_id}/extend/validate", **answers(ExperimentValidation), **TRAIN)
def validate_extension(
    experiment_id: ExperimentId, body: ExtendExperiment, project: ProjectId
) -> dict[str, object]:
    """Check seeds and arms to add without adding them, and count their runs."""
    return service.validate_extension(project, experiment_id, body)


@router.post(
    "/{experiment_id}/cancel", operation_id="cancel_experiment", **answers(ExperimentWithRuns), **TRAIN
)
def cancel(experiment_id: ExperimentId, project: ProjectId) -> dict[str, object]:
    """Cancel an experiment and the runs that have not ended."""
    return service.cancel(project, experiment_id)


@router.get(
    "/{experiment_id}/report",
    operation_id="retrieve_report",
    **answers(ReportObject, text_csv="``format=csv``", text_html="``format=html``"),
    **READ,
)
def report(
    experiment_id: ExperimentId,
    project: ProjectId,
    format: Annotated[ReportFormat, Query(description="json, csv, or html: a self-contained page")] = (
        "json"
    ),
) -> Response:
    """Get a report of what the results so far show."""
    found = results.report(project, experiment_id)
    if format == "csv":
        return Response(report_csv(found), media_type="text/csv")
    if format == "html":
        return Response(
            report_page(found), media_type="text/html", headers={"content-security-policy": REPORT_POLICY}
        )
    return JSONResponse(found)
