"""``/v1/fine_tuning/jobs/{id}/events``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import JobId, LastEventId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.jobs import service, stream
from app.jobs.objects import EventObject

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=StrictRoute)


@router.get(
    "/{fine_tuning_job_id}/events", **answers(ListOf[EventObject], event_stream="With ``stream``"), **READ
)
def list_events(
    fine_tuning_job_id: JobId,
    request: Request,
    project: ProjectId,
    after: After = None,
    limit: Limit = 20,
    streamed: Annotated[bool, Query(alias="stream", description="Server-sent events, oldest first")] = False,
    last_event_id: LastEventId = None,
) -> Response:
    """List a job's events, newest first, or follow them.

    With ``stream`` they arrive as they happen, after ``Last-Event-ID``, until the job ends.
    """
    if not streamed:
        return page(service.events(project, fine_tuning_job_id, after=after, limit=limit), limit)
    sequence = stream.start_after(project, fine_tuning_job_id, last_event_id or after)
    return StreamingResponse(
        stream.event_stream(request.state.job_watch, fine_tuning_job_id, sequence),
        media_type="text/event-stream",
        # Proxies otherwise hold events back until a buffer is full.
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )
