"""Rows behind the listing of fine-tuned models; app.models.catalog finds a single one."""

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.jobs.status import JobStatus
from app.models.catalog import visible_to
from app.tables import Checkpoint, Job


def jobs_by_part(session: Session, project_id: str, part: str) -> list[Job]:
    """Jobs whose id begins with ``ftjob-{part}``."""
    prefix = f"ftjob-{part}"
    rows = session.scalars(
        select(Job).where(Job.project_id == project_id, Job.id.startswith(prefix, autoescape=True))
    )
    return [job for job in rows if job.id.startswith(prefix)]  # LIKE disregards case on SQLite


def newest_checkpoints(
    session: Session, project_id: str, limit: int, at_or_before: Checkpoint | None = None
) -> list[tuple[Checkpoint, Job, bool]]:
    """Checkpoints that the project may use, with their jobs and whether each is its job's last, newest first;
    with ``at_or_before`` from that row on."""
    other = aliased(Checkpoint)
    last_step = select(func.max(other.step)).where(other.job_id == Checkpoint.job_id).scalar_subquery()
    query = (
        select(Checkpoint, Job, Checkpoint.step == last_step)
        .join(Job)
        .where(visible_to(project_id))
        .order_by(Checkpoint.created_at.desc(), Checkpoint.id.desc())
        .limit(limit)
    )
    if at_or_before is not None:
        time, key = at_or_before.created_at, at_or_before.id
        query = query.where(
            or_(Checkpoint.created_at < time, and_(Checkpoint.created_at == time, Checkpoint.id <= key))
        )
    return [(checkpoint, job, last) for checkpoint, job, last in session.execute(query)]


def newest_results(session: Session, project_id: str, limit: int) -> list[str]:
    """Names of the results of the jobs that succeeded last."""
    query = (
        select(Job.fine_tuned_model)
        .where(Job.project_id == project_id, Job.status == JobStatus.SUCCEEDED.value)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(limit)
    )
    return [name for name in session.scalars(query) if name]
