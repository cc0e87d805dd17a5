"""Rows behind the listing of fine-tuned models; app.models.catalog finds a single one."""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, select, tuple_, union
from sqlalchemy.orm import Session

from app.checkpoints.repository import last_step
from app.core.among import among
from app.core.job_status import JobStatus
from app.core.tables import Checkpoint, CheckpointPermission, Job


def jobs_by_part(session: Session, project_id: str, part: str) -> list[Job]:
    """Jobs whose models' names carry ``part`` (``app.checkpoints.naming.job_part``)."""
    prefix = f"ftjob-{part}"
    if session.get_bind().dialect.name == "postgresql":
        begins = Job.id.like(f"{prefix}%")  # letters and digits alone
    else:
        begins = Job.id.between(prefix, f"{prefix}\x7f")  # LIKE disregards case there, and so the index
    # There is one at most; asked for by its project, too, SQLite goes through that one's jobs.
    return [job for job in session.scalars(select(Job).where(begins)) if job.project_id == project_id]


_PLACE = (Checkpoint.created_at, Checkpoint.id)
_NEWEST = (Checkpoint.created_at.desc(), Checkpoint.id.desc())


class Listed(NamedTuple):
    """A checkpoint as lists show it: of a page's thousand, rows with all of their columns take far longer."""

    model: str
    created_at: float
    job_id: str
    step: int
    has_high_entropy: bool
    last_step: int
    """Of its job's checkpoints."""
    job: Row[*tuple[Any, ...]]
    """Columns ``model``, ``fine_tuned_model``, ``status``, ``result_step``."""

    @property
    def result_name(self) -> str | None:
        """The name of the model that the job made of it, where it did."""
        chosen = self.last_step if self.job.result_step is None else self.job.result_step
        made = self.job.status == JobStatus.SUCCEEDED and self.step == chosen
        return self.job.fine_tuned_model if made else None


def _first(query: Any, limit: int) -> Select[Any]:
    """The ``limit`` newest of checkpoints' places, as a part of a union: SQLite wants a query around it."""
    return select(query.order_by(*_NEWEST).limit(limit).subquery())


def newest_checkpoints(
    session: Session, project_id: str, limit: int, at_or_before: Checkpoint | None = None
) -> list[Listed]:
    """Checkpoints that the project may use, the newest first; with ``at_or_before`` from that row on."""
    own: Select[*tuple[Any, ...]] = select(*_PLACE).where(Checkpoint.project_id == project_id)
    shared: Select[*tuple[Any, ...]] = (
        select(*_PLACE).join(CheckpointPermission).where(CheckpointPermission.project_id == project_id)
    )
    # Each in the order of its index; the condition "the one or the other" reads all rows.
    parts = [own, shared]
    if at_or_before is not None:
        place = tuple_(at_or_before.created_at, at_or_before.id)
        parts = [part.where(tuple_(*_PLACE) <= place) for part in parts]
    newest = union(*(_first(part, limit) for part in parts)).subquery()
    places = select(newest.c.id).order_by(newest.c.created_at.desc(), newest.c.id.desc()).limit(limit)
    # Two queries: in one, PostgreSQL takes the first for a large one, and reads the table for it.
    ids = session.scalars(places).all()
    columns = (Checkpoint.model, Checkpoint.created_at, Checkpoint.job_id, Checkpoint.step)
    has_high_entropy = Checkpoint.high_entropy_prompt != ""
    query = select(*columns, has_high_entropy, last_step()).where(among(session, Checkpoint.id, ids))
    rows = session.execute(query.order_by(*_NEWEST)).all()
    jobs = _jobs(session, {row.job_id for row in rows})
    return [Listed._make((*row, jobs[row.job_id])) for row in rows]


def _jobs(session: Session, ids: Collection[str]) -> dict[str, Row[*tuple[Any, ...]]]:
    columns = (Job.id, Job.model, Job.fine_tuned_model, Job.status, Job.result_step)
    return {row.id: row for row in session.execute(select(*columns).where(among(session, Job.id, ids)))}


def newest_results(session: Session, project_id: str, limit: int) -> list[str]:
    """Names of the results of the jobs that succeeded last."""
    query = (
        select(Job.fine_tuned_model)
        .where(Job.project_id == project_id, Job.status == JobStatus.SUCCEEDED.value)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(limit)
    )
    return [name for name in session.scalars(query) if name]
