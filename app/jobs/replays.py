"""``/v1/fine_tuning/jobs/{id}/replay``: one step repeated by a worker, and whether the result was the same.

A replay is a row that a worker takes by a lease, as it does a job; the trainer repeats the step from the
nearest state, and its digest is compared with the recorded one (``trainer.replay``).
"""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.auth import ProjectId
from app.core.db import read_session, write_session
from app.core.description import ListOf, answers
from app.core.errors import BadRequest, Conflict, NotFound
from app.core.ids import new_replay_id
from app.core.job_status import JobStatus, is_terminal
from app.core.paging import After, Limit, page, unknown_cursor
from app.core.parameters import JobId, ReplayId
from app.core.queue import send_wakeup
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN
from app.core.strict_json import JsonObject
from app.core.tables import Job, JobReplay
from app.jobs.objects import ReplayObject
from app.jobs.service import found

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=StrictRoute)
OPEN = ("queued", "running")


@router.post("/{fine_tuning_job_id}/replay", operation_id="replay_step", **answers(ReplayObject), **TRAIN)
def replay(
    fine_tuning_job_id: JobId,
    project: ProjectId,
    step: Annotated[int, Query(ge=1, le=10_000_000, description="Step to repeat, from 1")],
) -> dict[str, object]:
    """Repeat one step of a job and compare it with the original.

    The job must not be running. The replay has the result later.
    """
    return create(project, fine_tuning_job_id, step)


@router.get("/{fine_tuning_job_id}/replays", **answers(ListOf[ReplayObject]), **READ)
def list_replays(
    fine_tuning_job_id: JobId, project: ProjectId, after: After = None, limit: Limit = 20
) -> Response:
    """List a job's replays, newest first."""
    return page(listing(project, fine_tuning_job_id, after=after, limit=limit), limit)


@router.get("/{fine_tuning_job_id}/replays/{replay_id}", **answers(ReplayObject), **READ)
def retrieve_replay(fine_tuning_job_id: JobId, replay_id: ReplayId, project: ProjectId) -> dict[str, object]:
    """Get a replay.

    ``matches`` says whether the result was the same.
    """
    with read_session() as session:
        job = found(session, project, fine_tuning_job_id)
        return _view(_found(session, job, replay_id))


def create(project_id: str, job_id: str, step: int) -> JsonObject:
    """Queue a replay, or return the pending one of that step; raises an ApiError."""
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        _check(job, step)
        query = select(JobReplay).where(
            JobReplay.job_id == job.id, JobReplay.step == step, JobReplay.status.in_(OPEN)
        )
        row = session.scalars(query).first()
        if row is None:
            now = time.time()
            row = JobReplay(id=new_replay_id(), job_id=job.id, step=step, status="queued", created_at=now)
            row.enqueued_at = now
            session.add(row)
            session.flush()
            record(session, "replay.created", row.id, project_id, job_id=job.id, step=step)
        view = _view(row)
    send_wakeup(view["id"])
    return view


def listing(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 replay objects, newest first."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        query = select(JobReplay).where(JobReplay.job_id == job.id)
        if after is not None:
            cursor = session.get(JobReplay, after)
            if cursor is None or cursor.job_id != job.id:
                raise unknown_cursor(after)
            place = tuple_(JobReplay.created_at, JobReplay.id)
            query = query.where(place < tuple_(cursor.created_at, cursor.id))
        query = query.order_by(JobReplay.created_at.desc(), JobReplay.id.desc())
        rows = session.scalars(query.limit(limit + 1))
        return [_view(row) for row in rows]


def _check(job: Job, step: int) -> None:
    if not (is_terminal(job.status) or job.status == JobStatus.PAUSED):
        raise Conflict(
            f"The job '{job.id}' is {job.status}: its steps can be replayed once it is paused or has ended.",
            param="fine_tuning_job_id",
            code="job_not_finished",
        )
    if step > job.step:
        done = f"steps 1 to {job.step}" if job.step else "no steps"
        raise BadRequest(
            f"Invalid value for 'step': {step}. The job has done {done}.", param="step", code="invalid_value"
        )


def _found(session: Session, job: Job, replay_id: str) -> JobReplay:
    row = session.get(JobReplay, replay_id)
    if row is None or row.job_id != job.id:
        raise NotFound(f"No such replay: '{replay_id}'.", param="replay_id")
    return row


def _view(row: JobReplay) -> JsonObject:
    result = row.result or {}
    return {
        "id": row.id,
        "object": "fine_tuning.job.replay",
        "job_id": row.job_id,
        "step": row.step,
        "status": row.status,
        "created_at": int(row.created_at),
        "finished_at": None if row.finished_at is None else int(row.finished_at),
        "matches": result.get("matches"),
        "compared": result.get("compared"),
        "source": result.get("source"),
        "from_step": result.get("from_step"),
        "digest": result.get("digest"),
        "recorded_digest": result.get("recorded_digest"),
        "error": row.error,
    }
