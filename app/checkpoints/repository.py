"""Rows of checkpoints. The folder's manifest, written last, is what makes a checkpoint finished."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.checkpoints.naming import model_id
from app.ids import new_checkpoint_id
from app.settings import get_settings
from app.tables import Checkpoint, Job
from app.upsert import insert_for
from trainer.modes import Placement

_REPLACED = (
    *("path", "high_entropy_prompt", "high_entropy_placement", "chat_template_kwargs"),
    *("manifest_sha256", "metrics"),
)


def upsert_checkpoint(
    session: Session,
    job: Job,
    *,
    step: int,
    path: str,
    high_entropy_prompt: str,
    manifest_sha256: str,
    metrics: dict[str, float],
    high_entropy_placement: Placement = "system",
    chat_template_kwargs: dict[str, Any] | None = None,
    now: float | None = None,
) -> Checkpoint:
    """Record a finished checkpoint folder; a repetition for the same step keeps its id and name.

    ``path`` is absolute.
    """
    values = {
        "id": new_checkpoint_id(),
        "job_id": job.id,
        "project_id": job.project_id,
        "created_at": time.time() if now is None else now,
        "step": step,
        "model": model_id(
            model=job.model,
            organization=get_settings().organization,
            suffix=job.suffix,
            job_id=job.id,
            step=step,
        ),
        "path": path,
        "high_entropy_prompt": high_entropy_prompt,
        "high_entropy_placement": high_entropy_placement,
        "chat_template_kwargs": chat_template_kwargs or {},
        "manifest_sha256": manifest_sha256,
        "metrics": metrics,
    }
    statement = insert_for(session, Checkpoint).values(**values)
    replaced = {key: statement.excluded[key] for key in _REPLACED}
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=replaced))
    found = select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == step)
    return session.scalars(found, execution_options={"populate_existing": True}).one()


def remove_checkpoint(session: Session, job_id: str, step: int) -> None:
    """Forget a checkpoint whose folder the retention rule removed."""
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step))


def latest_checkpoint(session: Session, job_id: str) -> Checkpoint | None:
    """The checkpoint of the job's highest step."""
    return session.scalars(
        select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc()).limit(1)
    ).first()


def listing(session: Session, job_id: str, *, below_step: int | None, limit: int) -> Sequence[Checkpoint]:
    """Up to ``limit`` checkpoints of a job, the latest step first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if below_step is not None:
        query = query.where(Checkpoint.step < below_step)
    return session.scalars(query.order_by(Checkpoint.step.desc()).limit(limit)).all()
