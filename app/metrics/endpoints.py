"""``/v1/fine_tuning/jobs/{id}/metrics`` and ``metrics.csv``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app.auth import ProjectId
from app.metrics import service
from app.requests import StrictRoute

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["metrics"], route_class=StrictRoute)

_MAX_STEP = 2**31 - 1
Names = Annotated[list[str], Query(description="A series; may be repeated")]


@router.get("/{fine_tuning_job_id}/metrics")
def get_metrics(
    fine_tuning_job_id: str,
    project: ProjectId,
    name: Names = [],  # noqa: B006 (FastAPI copies it)
    first: Annotated[int, Query(alias="from", ge=0, le=_MAX_STEP)] = 0,
    last: Annotated[int, Query(alias="to", ge=0, le=_MAX_STEP)] = _MAX_STEP,
    max_points: Annotated[int, Query(ge=4, le=100_000)] = 1000,
) -> dict[str, Any]:
    """Without ``name``, the series that there are; with it, their points. Thinning keeps the extremes."""
    if not name:
        return {"object": "list", "data": service.names(project, fine_tuning_job_id)}
    data = service.series(project, fine_tuning_job_id, name, first=first, last=last, max_points=max_points)
    return {"object": "list", "data": data}


@router.get("/{fine_tuning_job_id}/metrics.csv")
def get_metrics_csv(
    fine_tuning_job_id: str,
    project: ProjectId,
    name: Names = [],  # noqa: B006 (FastAPI copies it)
) -> StreamingResponse:
    """All points as a table: a row a step, a column a series."""
    return StreamingResponse(
        service.csv_lines(project, fine_tuning_job_id, name),
        media_type="text/csv",
        headers={"content-disposition": f'attachment; filename="{fine_tuning_job_id}-metrics.csv"'},
    )
