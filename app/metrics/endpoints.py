"""``/v1/fine_tuning/jobs/{id}/metrics``, ``metrics/stream`` and ``metrics.csv``."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from app.core.auth import ProjectId
from app.core.description import answers, answers_text
from app.core.parameters import JobId, LastEventId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.metrics import service, stream
from app.metrics.objects import SeriesList

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["metrics"], route_class=StrictRoute)

_MAX_STEP = 2**31 - 1
Names = Annotated[list[str], Query(description="Name of a series; may be repeated")]


@router.get("/{fine_tuning_job_id}/metrics", **answers(SeriesList), **READ)
def get_metrics(
    fine_tuning_job_id: JobId,
    project: ProjectId,
    name: Names = [],  # noqa: B006 (FastAPI copies it)
    first: Annotated[int, Query(alias="from", ge=0, le=_MAX_STEP, description="The first step to show")] = 0,
    last: Annotated[
        int, Query(alias="to", ge=0, le=_MAX_STEP, description="The last step to show")
    ] = _MAX_STEP,
    max_points: Annotated[
        int,
        Query(
            ge=4,
            le=100_000,
            description="Points per series; if there are more, they are thinned, keeping extremes",
        ),
    ] = 1000,
    layout: Annotated[
        Literal["points", "columns"],
        Query(description="columns: two lists, `steps` and `values`, instead of `points`; for many series"),
    ] = "points",
) -> dict[str, object] | Response:
    """Get a job's metrics: the list of series, or the points of some.

    Without ``name``, the available series; with it, their points. Thinning keeps the extremes.
    """
    if not name:
        return {"object": "list", "data": service.names(project, fine_tuning_job_id)}
    if layout == "columns":
        text = service.columns(
            project, fine_tuning_job_id, name, first=first, last=last, max_points=max_points
        )
        return Response(text, media_type="application/json")
    data = service.series(project, fine_tuning_job_id, name, first=first, last=last, max_points=max_points)
    return {"object": "list", "data": data}


@router.get("/{fine_tuning_job_id}/metrics/stream", **answers_text("Events", "text/event-stream"), **READ)
def stream_metrics(
    fine_tuning_job_id: JobId,
    request: Request,
    project: ProjectId,
    name: Names = [],  # noqa: B006 (FastAPI copies it)
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Follow a job's metrics as they arrive.

    Server-sent events, one per step, after ``Last-Event-ID``, until the job ends.
    """
    step = stream.start_after(project, fine_tuning_job_id, last_event_id)
    return StreamingResponse(
        stream.metrics_stream(request.state.job_watch, fine_tuning_job_id, name, step),
        media_type="text/event-stream",
        # Proxies otherwise hold events back until a buffer is full.
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


@router.get("/{fine_tuning_job_id}/metrics.csv", **answers_text("A table", "text/csv"), **READ)
def get_metrics_csv(
    fine_tuning_job_id: JobId,
    project: ProjectId,
    name: Names = [],  # noqa: B006 (FastAPI copies it)
) -> StreamingResponse:
    """Download a job's metrics as a table.

    One row per step, one column per series.
    """
    return StreamingResponse(
        service.csv_lines(project, fine_tuning_job_id, name),
        media_type="text/csv",
        headers={"content-disposition": f'attachment; filename="{fine_tuning_job_id}-metrics.csv"'},
    )
