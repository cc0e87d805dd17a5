"""Removing a job with everything that it made: rows, results, checkpoints, its run's folder."""

import logging
import shutil
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import read_session, write_session
from app.errors import Conflict
from app.files import storage
from app.jobs.service import found
from app.jobs.status import TERMINAL, is_terminal
from app.settings import get_settings
from app.tables import (
    Checkpoint,
    ExperimentRun,
    File,
    Job,
    JobAttempt,
    JobEvent,
    JobReplay,
    MetricBlock,
    MetricPoint,
    MetricSeries,
    Rollout,
)

#: Rows that go in one transaction: the database is not held up by a job with millions of points.
ROWS = 5_000
_TERMINAL = [status.value for status in TERMINAL]
_log = logging.getLogger("app")


def delete_job(project_id: str, job_id: str) -> dict[str, Any]:
    """Remove a job that is over; raises NotFound or Conflict.

    One that was cut off by a crash is to be asked for again: what is left of the job is there until then.
    """
    with read_session() as session:
        _check(session, found(session, project_id, job_id))
    delete_rollouts(job_id)
    delete_events(job_id)
    _delete_points(job_id)
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        _check(session, job)
        results = list(job.result_files)
        session.execute(delete(File).where(File.id.in_(results), File.project_id == project_id))
        for table in (Checkpoint, MetricSeries, JobEvent, Rollout, JobAttempt, JobReplay):
            session.execute(delete(table).where(table.job_id == job_id))
        session.execute(delete(Job).where(Job.id == job_id))
    for file_id in results:
        storage.remove(file_id)
    folder = get_settings().runs_dir / job_id
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("%s could not be removed: %s", folder, error)
    return {"id": job_id, "object": "fine_tuning.job", "deleted": True}


def delete_rollouts(job_id: str) -> int:
    """Remove a job's rollouts; how many."""
    return _in_parts(lambda: select(Rollout.id).where(Rollout.job_id == job_id).limit(ROWS), Rollout.id)


def delete_events(job_id: str) -> int:
    """Remove a job's events; how many."""
    query = select(JobEvent.sequence).where(JobEvent.job_id == job_id).limit(ROWS)
    return _in_parts(lambda: query, JobEvent.sequence)


def _delete_points(job_id: str) -> None:
    with read_session() as session:
        series = session.scalars(select(MetricSeries.id).where(MetricSeries.job_id == job_id)).all()
    for number in series:
        with write_session() as session:
            session.execute(delete(MetricPoint).where(MetricPoint.series_id == number))
            session.execute(delete(MetricBlock).where(MetricBlock.series_id == number))


def _in_parts(query: Any, key: Any) -> int:
    total = 0
    while True:
        with write_session() as session:
            ids = session.scalars(query()).all()
            if ids:
                session.execute(delete(key.class_).where(key.in_(ids)))
        total += len(ids)
        if len(ids) < ROWS:
            return total


def _check(session: Session, job: Job) -> None:
    if not is_terminal(job.status):
        raise Conflict(
            f"The job '{job.id}' is {job.status}. Cancel it first; then it can be deleted.",
            param="fine_tuning_job_id",
            code="job_not_finished",
        )
    experiment = session.scalars(
        select(ExperimentRun.experiment_id).where(ExperimentRun.job_id == job.id).limit(1)
    ).first()
    if experiment is not None:
        raise Conflict(
            f"The job '{job.id}' is a run of the experiment '{experiment}', whose results rest on it.",
            param="fine_tuning_job_id",
            code="job_in_experiment",
        )
    names = list(session.scalars(select(Checkpoint.model).where(Checkpoint.job_id == job.id)))
    names += [job.fine_tuned_model] if job.fine_tuned_model else []
    user = session.scalars(
        select(Job.id).where(Job.model.in_(names), Job.status.not_in(_TERMINAL)).limit(1)
    ).first()
    if user is not None:
        raise Conflict(
            f"The job '{user}', which has not finished, starts from a model of this job. Cancel that first.",
            param="fine_tuning_job_id",
            code="model_in_use",
        )
