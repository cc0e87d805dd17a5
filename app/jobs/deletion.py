"""Removing a job with everything it made: rows, results, checkpoints, its run's folder."""

import logging
import shutil
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import Conflict
from app.core.job_status import is_terminal
from app.core.nowhere import have_nowhere
from app.core.settings import get_settings
from app.core.store.artefacts import remove_below
from app.core.tables import (
    DELETED_PROJECT,
    Checkpoint,
    EvalRun,
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
    RolloutArchive,
)
from app.core.unfinished import unfinished
from app.files import storage
from app.jobs.service import found

#: Rows removed in one transaction: a job with millions of points does not block the database.
ROWS = 1_000
_log = logging.getLogger("app")


def delete_job(project_id: str, job_id: str) -> dict[str, object]:
    """Remove a job that is over; raises NotFound or Conflict.

    For its project it is gone at once, with its models and results; its many rows and its folder follow
    (:func:`remove_deleted`).
    """
    with write_session() as session:
        job = found(session, project_id, job_id, lock=True)
        _check(session, job)
        results = list(job.result_files)
        session.execute(delete(File).where(File.id.in_(results), File.project_id == project_id))
        session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id))
        have_nowhere(session)
        record(session, "job.deleted", job_id, project_id, name=job.name)
        job.project_id, job.idempotency_key, job.fine_tuned_model = DELETED_PROJECT, None, None
    for file_id in results:
        storage.remove(file_id)
    return {"id": job_id, "object": "fine_tuning.job", "deleted": True}


def remove_deleted(stops: Callable[[], bool] = lambda: False) -> int:
    """Remove what is left of deleted jobs; how many. Any number of workers may do it at once.

    If one is cut off by a crash, or by ``stops``, the next one continues. ``stops`` is checked between two
    transactions.
    """
    count = 0
    while not stops():
        with read_session() as session:
            job_id = session.scalar(select(Job.id).where(Job.project_id == DELETED_PROJECT).limit(1))
        if job_id is None:
            break
        for table in (Rollout, JobEvent, MetricPoint, MetricBlock):
            while not stops():
                with write_session() as session:
                    removed = delete_some(session, table, job_id, ROWS)
                if not removed:
                    break
        if stops():
            break
        shutil.rmtree(get_settings().runs_dir / job_id, ignore_errors=True)
        remove_below(f"runs/{job_id}")
        with write_session() as session:
            for table in (MetricSeries, JobAttempt, JobReplay, RolloutArchive):
                session.execute(delete(table).where(table.job_id == job_id))
            session.execute(delete(Job).where(Job.id == job_id))
        _log.info("%s has been removed", job_id)
        count += 1
    return count


def delete_some(session: Session, table: Any, job_id: str, most: int) -> int:
    """Remove up to ``most`` of a job's rows of ``table``, those that nobody else has locked; how many."""
    if table in (MetricPoint, MetricBlock):
        key = (table.series_id, MetricPoint.step if table is MetricPoint else MetricBlock.number)
        mine = table.series_id.in_(select(MetricSeries.id).where(MetricSeries.job_id == job_id))
    else:
        key = (table.id if table is Rollout else table.sequence,)
        mine = table.job_id == job_id
    some = select(*key).where(mine).limit(most).with_for_update(skip_locked=True, of=table)
    removed = session.execute(
        delete(table)
        .where(tuple_(*key).in_(some))
        .returning(*key)
        .execution_options(synchronize_session=False)
    )
    return len(removed.all())


def _check(session: Session, job: Job) -> None:
    if not is_terminal(job.status):
        raise Conflict(
            f"The job '{job.id}' is {job.status}. Cancel it before deleting it.",
            param="fine_tuning_job_id",
            code="job_not_finished",
        )
    experiment = session.scalars(
        select(ExperimentRun.experiment_id).where(ExperimentRun.job_id == job.id).limit(1)
    ).first()
    if experiment is not None:
        raise Conflict(
            f"The job '{job.id}' is a run of the experiment '{experiment}', whose results depend on it.",
            param="fine_tuning_job_id",
            code="job_in_experiment",
        )
    names = list(session.scalars(select(Checkpoint.model).where(Checkpoint.job_id == job.id)))
    names += [job.fine_tuned_model] if job.fine_tuned_model else []
    user = session.scalars(select(Job.id).where(Job.model.in_(names), *unfinished()).limit(1)).first()
    if user is not None:
        raise Conflict(
            f"The job '{user}', which has not finished, starts from this job's model. Cancel that job first.",
            param="fine_tuning_job_id",
            code="model_in_use",
        )
    run = select(EvalRun.id).where(EvalRun.weights.in_(names), EvalRun.finished_at.is_(None))
    if (asking := session.scalars(run.limit(1)).first()) is not None:
        raise Conflict(
            f"The eval run '{asking}', which has not finished, queries this job's model. Cancel that run "
            "first.",
            param="fine_tuning_job_id",
            code="model_in_use",
        )
