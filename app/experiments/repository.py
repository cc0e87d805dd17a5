"""Rows of experiments and their runs."""

from collections.abc import Sequence

from sqlalchemy import Update, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.core.job_status import TERMINAL
from app.core.tables import Experiment, ExperimentRun, Job

_ENDED = [status.value for status in TERMINAL]


def find(session: Session, project_id: str, experiment_id: str, *, lock: bool = False) -> Experiment | None:
    """The experiment; with ``lock`` nobody else changes it until the transaction ends."""
    query = select(Experiment).where(Experiment.id == experiment_id, Experiment.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).first()


def listing(
    session: Session, project_id: str, *, after: Experiment | None, limit: int
) -> Sequence[Experiment]:
    """Up to ``limit`` experiments after another, newest first."""
    query = select(Experiment).where(Experiment.project_id == project_id)
    if after is not None:
        query = query.where(tuple_(Experiment.created_at, Experiment.id) < tuple_(after.created_at, after.id))
    order = (Experiment.created_at.desc(), Experiment.id.desc())
    return session.scalars(query.order_by(*order).limit(limit)).all()


def unstarted(session: Session, limit: int) -> Sequence[str]:
    """Experiments that have runs to start."""
    query = select(Experiment.id).where(Experiment.has_unstarted_runs.is_(True))
    return session.scalars(query.order_by(Experiment.created_at).limit(limit)).all()


def runs_of(session: Session, experiment_id: str) -> Sequence[tuple[ExperimentRun, Job | None]]:
    """Every run with its job, if it has one, in order."""
    query = (
        select(ExperimentRun, Job)
        .outerjoin(Job, Job.id == ExperimentRun.job_id)
        .where(ExperimentRun.experiment_id == experiment_id)
        .order_by(ExperimentRun.position)
    )
    return [(run, job) for run, job in session.execute(query).all()]


def waiting_runs(session: Session, experiment_id: str, limit: int) -> Sequence[ExperimentRun]:
    """The next runs without a job, in order."""
    query = (
        select(ExperimentRun)
        .where(
            ExperimentRun.experiment_id == experiment_id,
            ExperimentRun.job_id.is_(None),
            ExperimentRun.error.is_(None),
        )
        .order_by(ExperimentRun.position)
        .limit(limit)
    )
    return session.scalars(query).all()


def active_jobs(session: Session, experiment_id: str) -> int:
    """How many of its jobs have not ended."""
    query = (
        select(func.count())
        .select_from(ExperimentRun)
        .join(Job, Job.id == ExperimentRun.job_id)
        .where(ExperimentRun.experiment_id == experiment_id, Job.status.not_in(_ENDED))
    )
    return session.scalar(query) or 0


def seconds_used(session: Session, experiment_id: str, now: float) -> float:
    """How long its jobs have run, together; those that run still, until now."""
    ended = func.coalesce(Job.finished_at, now)
    query = (
        select(func.sum(ended - Job.started_at))
        .select_from(ExperimentRun)
        .join(Job, Job.id == ExperimentRun.job_id)
        .where(ExperimentRun.experiment_id == experiment_id, Job.started_at.is_not(None))
    )
    return float(session.scalar(query) or 0.0)


def counts(session: Session, experiment_ids: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """Each experiment's runs by their job's status: None without a job, ``refused`` with an error."""
    # A lookup for each run: joined, PostgreSQL reads all jobs for a page of experiments.
    status = select(Job.status).where(Job.id == ExperimentRun.job_id).scalar_subquery()
    refused = ExperimentRun.error.is_not(None)
    runs = select(ExperimentRun.experiment_id, status.label("status"), refused.label("refused"))
    rows = runs.where(ExperimentRun.experiment_id.in_(experiment_ids)).subquery()
    columns = rows.c.experiment_id, rows.c.status, rows.c.refused
    query = select(*columns, func.count()).group_by(*columns)
    found: dict[str, dict[str | None, int]] = {one: {} for one in experiment_ids}
    for experiment_id, status, refused, count in session.execute(query).all():
        key = "refused" if refused else status
        found[experiment_id][key] = found[experiment_id].get(key, 0) + count
    return found


def last_position(session: Session, experiment_id: str) -> int:
    """The place of the last run; -1 without any."""
    query = select(func.max(ExperimentRun.position)).where(ExperimentRun.experiment_id == experiment_id)
    found = session.scalar(query)
    return -1 if found is None else found


def jobs_with_keys(session: Session, project_id: str, keys: Sequence[str]) -> Sequence[str]:
    """Jobs of these idempotency keys that have not ended."""
    query = select(Job.id).where(
        Job.project_id == project_id, Job.idempotency_key.in_(keys), Job.status.not_in(_ENDED)
    )
    return session.scalars(query).all() if keys else []


def record_job(session: Session, run: ExperimentRun, job_id: str) -> None:
    """The run has its job. Whoever comes second says the same, for the job's key is the run's."""
    session.execute(_row(run).values(job_id=job_id))


def record_refusal(session: Session, run: ExperimentRun, error: dict[str, object]) -> None:
    """The run's job was refused for good."""
    session.execute(_row(run).where(ExperimentRun.job_id.is_(None)).values(error=error))


def _row(run: ExperimentRun) -> Update:
    key = (run.experiment_id, run.arm, run.task, run.seed)
    columns = (
        ExperimentRun.experiment_id,
        ExperimentRun.arm,
        ExperimentRun.task,
        ExperimentRun.seed,
    )
    statement = update(ExperimentRun).where(*(c == v for c, v in zip(columns, key, strict=True)))
    return statement.execution_options(synchronize_session=False)
