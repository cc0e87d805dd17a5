"""What finished jobs leave behind expires by policy. The reconciler's thread comes by now and then.

Each thing has a limit of its own in days (``POLICYSPLIT_RETAIN_…_DAYS``; 0 keeps it), counted from the job's
end, or from the upload of a file. Small transactions, and nothing that cannot be done twice: any number of
workers may do it at once. Metrics stay: they are small, and the job is nothing without them.
"""

import logging
import shutil
import time
from pathlib import Path

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import aliased

from app.db import read_session, write_session
from app.files import storage
from app.files.schemas import PURPOSES
from app.jobs.deletion import delete_events, delete_rollouts
from app.jobs.status import TERMINAL
from app.settings import get_settings
from app.tables import Checkpoint, File, Job, JobEvent, Rollout

DAY = 86_400.0
#: Jobs, checkpoints or files that one pass looks at; the rest is for the next.
PASS_LIMIT = 100
_TERMINAL = [status.value for status in TERMINAL]
_log = logging.getLogger(__name__)


def expire(now: float | None = None) -> None:
    """One pass over everything that has a limit."""
    now = time.time() if now is None else now
    settings = get_settings()
    if days := settings.retain_rollouts_days:
        _expire_rows(Rollout, now - days * DAY)
    if days := settings.retain_events_days:
        _expire_rows(JobEvent, now - days * DAY)
    if days := settings.retain_checkpoints_days:
        _expire_checkpoints(now - days * DAY)
    if days := settings.retain_files_days:
        _expire_files(now - days * DAY)


def _expire_rows(table: type[Rollout] | type[JobEvent], before: float) -> None:
    query = (
        select(Job.id)
        .where(Job.finished_at < before, exists().where(table.job_id == Job.id))
        .order_by(Job.finished_at)
        .limit(PASS_LIMIT)
    )
    with read_session() as session:
        jobs = session.scalars(query).all()
    remove = delete_rollouts if table is Rollout else delete_events
    for job_id in jobs:
        _log.info("%s: %s %s have expired", job_id, remove(job_id), table.__tablename__)


def _expire_checkpoints(before: float) -> None:
    """All but the last one of each job, which is the job's result, and those that a job starts from."""
    last = (
        select(func.max(Checkpoint.step)).where(Checkpoint.job_id == Job.id).correlate(Job).scalar_subquery()
    )
    user = aliased(Job)
    used = exists().where(user.model == Checkpoint.model, user.status.not_in(_TERMINAL))
    query = (
        select(Checkpoint.id, Checkpoint.path)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Job.finished_at < before, Checkpoint.step < last, ~used)
        .limit(PASS_LIMIT)
    )
    with read_session() as session:
        found = session.execute(query).all()
    for checkpoint_id, path in found:
        with write_session() as session:
            row = session.get(Checkpoint, checkpoint_id)
            if row is not None:
                session.delete(row)
        if Path(path).resolve().is_relative_to(get_settings().runs_dir):
            shutil.rmtree(path, ignore_errors=True)
        _log.info("the checkpoint in %s has expired", path)


def _expire_files(before: float) -> None:
    """Uploaded files that no unfinished job needs."""
    needed = exists().where(
        or_(Job.training_file == File.id, Job.validation_file == File.id), Job.status.not_in(_TERMINAL)
    )
    query = select(File.id).where(File.created_at < before, File.purpose.in_(PURPOSES), ~needed)
    with read_session() as session:
        ids = session.scalars(query.limit(PASS_LIMIT)).all()
    for file_id in ids:
        with write_session() as session:
            # Looked at again: a job may have been made of it meanwhile.
            file = session.scalars(
                select(File).where(File.id == file_id, ~needed).with_for_update()
            ).one_or_none()
            if file is None:
                continue
            session.delete(file)
        storage.remove(file_id)
        _log.info("%s has expired", file_id)
