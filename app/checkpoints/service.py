"""What can be asked about a job's checkpoints."""

from typing import Any

from sqlalchemy import select

from app.checkpoints import repository
from app.db import read_session
from app.jobs.service import found
from app.paging import unknown_cursor
from app.tables import Checkpoint


def listing(project_id: str, job_id: str, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` + 1 checkpoint objects, the latest step first."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        step = None
        if after is not None:
            known = select(Checkpoint.step).where(Checkpoint.id == after, Checkpoint.job_id == job.id)
            if (step := session.scalar(known)) is None:
                raise unknown_cursor(after)
        rows = repository.listing(session, job.id, below_step=step, limit=limit + 1)
        return [_view(row) for row in rows]


def _view(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(checkpoint.created_at),
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job_id,
        "step_number": checkpoint.step,
        "metrics": {"step": checkpoint.step, **checkpoint.metrics},
        "high_entropy_prompt": checkpoint.high_entropy_prompt,
        "high_entropy_placement": checkpoint.high_entropy_placement,
        "chat_template_kwargs": checkpoint.chat_template_kwargs,
    }
