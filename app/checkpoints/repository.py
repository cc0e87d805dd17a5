"""Rows of checkpoints. The folder's manifest, written last, is what makes a checkpoint finished."""

import time
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, literal_column, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.checkpoints.naming import model_id
from app.core.ids import new_checkpoint_id
from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.tables import Checkpoint, CheckpointPermission, Job
from app.core.upsert import insert_for
from trainer.spec.modes import Placement

_REPLACED = (
    *("path", "high_entropy_prompt", "high_entropy_placement", "chat_template_kwargs"),
    *("manifest_sha256", "metrics"),
)

#: Another checkpoint of the same job. Made once: an alias of a table with many columns takes a millisecond.
_OTHER = aliased(Checkpoint)


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
    chat_template_kwargs: Mapping[str, object] | None = None,
    now: float | None = None,
) -> Checkpoint:
    """Record a finished checkpoint folder; a repetition for the same step keeps its id and name.

    ``path`` is its place: absolute, or a reference into the store.
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
    count_checkpoints(session, [job.id])
    found = select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == step)
    return session.scalars(found, execution_options={"populate_existing": True}).one()


def remove_checkpoint(session: Session, job_id: str, step: int) -> str | None:
    """Forget a checkpoint whose folder the retention rule removed; the place that it had."""
    gone = delete(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step)
    place = session.scalar(gone.returning(Checkpoint.path))
    count_checkpoints(session, [job_id])
    return place


def count_checkpoints(session: Session, job_ids: Iterable[str]) -> None:
    """Have the jobs know how many checkpoints they have, in the transaction that changes these.

    Counted, not added to: what a worker of the release before left out comes in with the next one. Of several
    the caller has locked the rows, in their order.
    """
    count = select(func.count()).select_from(Checkpoint).where(Checkpoint.job_id == Job.id)
    counted = update(Job).where(Job.id.in_(job_ids)).values(checkpoints=count.scalar_subquery())
    session.execute(counted.execution_options(synchronize_session=False))


def result_checkpoint(session: Session, job_id: str) -> Checkpoint | None:
    """The checkpoint that is, or so far would be, the job's result."""
    query = select(Checkpoint).join(Job, Job.id == Checkpoint.job_id)
    return session.scalars(query.where(Checkpoint.job_id == job_id, is_result())).first()


def has_checkpoint(session: Session, job_id: str, step: int) -> bool:
    """Whether the job's checkpoint of ``step`` is registered."""
    found = select(Checkpoint.id).where(Checkpoint.job_id == job_id, Checkpoint.step == step)
    return session.scalar(found) is not None


def is_result() -> ColumnElement[bool]:
    """The condition that a checkpoint is the result of its job, which the query joins."""
    return Checkpoint.step == func.coalesce(Job.result_step, last_step())


def last_step() -> ScalarSelect[int]:
    """The step of the last checkpoint of a checkpoint's job."""
    last = select(func.max(_OTHER.step)).where(_OTHER.job_id == Checkpoint.job_id)
    return last.correlate(Checkpoint).scalar_subquery()


def listing(session: Session, job_id: str, *, below_step: int | None, limit: int) -> Sequence[Checkpoint]:
    """Up to ``limit`` checkpoints of a job, the latest step first."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if below_step is not None:
        query = query.where(Checkpoint.step < below_step)
    return session.scalars(query.order_by(Checkpoint.step.desc()).limit(limit)).all()


def checkpoint_of(session: Session, project_id: str, stored_name: str) -> Checkpoint | None:
    """The checkpoint behind a fine-tuned model's name (without a mode): a job's result or a single one.

    It belongs to the project or is shared with it.
    """
    checkpoint = _named(session, stored_name)
    if checkpoint is None:
        return None
    visible = select(Checkpoint.id).where(Checkpoint.id == checkpoint.id, visible_to(project_id))
    return None if session.scalar(visible) is None else checkpoint


def owned_checkpoint(session: Session, project_id: str, stored_name: str) -> Checkpoint | None:
    """:func:`checkpoint_of` for what belongs to the project."""
    checkpoint = _named(session, stored_name)
    return checkpoint if checkpoint is not None and checkpoint.project_id == project_id else None


def visible_to(project_id: str) -> ColumnElement[bool]:
    """The condition that a checkpoint belongs to the project or is shared with it."""
    shared = select(literal_column("1")).where(
        CheckpointPermission.checkpoint_id == Checkpoint.id, CheckpointPermission.project_id == project_id
    )
    return or_(Checkpoint.project_id == project_id, shared.exists())


def _named(session: Session, stored_name: str) -> Checkpoint | None:
    """Whose ever it is: a shared earlier checkpoint must not pass for a result that is not shared."""
    exact = session.scalars(select(Checkpoint).where(Checkpoint.model == stored_name)).first()
    if exact is not None:
        return exact
    return session.scalars(
        select(Checkpoint)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Job.fine_tuned_model == stored_name, Job.status == JobStatus.SUCCEEDED.value, is_result())
    ).first()
