"""What can be done with estimates: ask for one, look at it."""

import time

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import NotFound
from app.core.ids import new_estimate_id
from app.core.queue import send_probe
from app.core.tables import Estimate
from app.estimates import repository
from app.jobs.creation import check_job
from app.jobs.schemas import CreateJob


def create(project_id: str, request: CreateJob) -> dict[str, object]:
    """Queue the probe of a job. Raises BadRequest for what would have the job refused."""
    estimate_id = new_estimate_id()
    resolved = check_job(project_id, request, job_id=estimate_id, seed=request.seed or 0)
    row = Estimate(
        id=estimate_id,
        project_id=project_id,
        created_at=time.time(),
        status=repository.QUEUED,
        model=request.model,
        run_spec=resolved.run_spec.model_dump(mode="json"),
        attempt=0,
    )
    with write_session() as session:
        session.add(row)
        record(session, "estimate.created", row.id, project_id, model=row.model)
    announce(estimate_id)
    return _view(row)


def retrieve(project_id: str, estimate_id: str) -> dict[str, object]:
    """The estimate; raises NotFound."""
    with read_session() as session:
        row = repository.find(session, project_id, estimate_id)
        if row is None:
            raise NotFound(f"No such estimate: '{estimate_id}'.", param="estimate_id")
        return _view(row)


def announce(estimate_id: str) -> None:
    """Tell the workers. Noted first: a process that dies in between has its message sent again."""
    with write_session() as session:
        repository.mark_sent(session, estimate_id, time.time())
    if not send_probe(estimate_id):
        with write_session() as session:
            repository.mark_sent(session, estimate_id, None)


def _view(row: Estimate) -> dict[str, object]:
    return {
        "id": row.id,
        "object": "fine_tuning.estimate",
        "created_at": int(row.created_at),
        "finished_at": None if row.finished_at is None else int(row.finished_at),
        "status": row.status,
        "model": row.model,
        "result": row.result,
        "error": row.error,
    }
