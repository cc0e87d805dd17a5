"""What expires by policy, of ended jobs and of uploads: one rule for the worker and for who asks ahead."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.checkpoints.repository import is_result
from app.core.settings import get_settings
from app.core.tables import Checkpoint, EvalOutputItem, EvalRun, File, Job, JobEvent, Rollout, RolloutArchive
from app.core.unfinished import unfinished
from app.files.schemas import PURPOSES

DAY = 86_400.0
#: How far ahead it is said what expires.
AHEAD_DAYS = 7
What = Literal["rollouts", "rollout_archives", "events", "checkpoints", "files", "eval_items"]
Condition = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True)
class Expiring:
    """What will have expired :data:`AHEAD_DAYS` from now and has not yet."""

    count: int
    bytes: int | None = None


def kept_days() -> dict[What, float]:
    """How long each thing is kept; 0: for ever."""
    settings = get_settings()
    return {
        "rollouts": settings.retain_rollouts_days,
        "rollout_archives": settings.retain_rollout_archives_days,
        "events": settings.retain_events_days,
        "checkpoints": settings.retain_checkpoints_days,
        "files": settings.retain_files_days,
        "eval_items": settings.retain_eval_items_days,
    }


def checkpoint_may_go() -> Condition:
    """Of a checkpoint, joined with its job: it is not the job's result, and nothing needs it: no job that
    starts from it, no run that asks it."""
    user = aliased(Job)
    used = exists().where(user.model == Checkpoint.model, *unfinished(user))
    asked = exists().where(EvalRun.weights == Checkpoint.model, EvalRun.finished_at.is_(None))
    return ~is_result(), ~used, ~asked


def file_may_go() -> Condition:
    """Of a file: somebody uploaded it, and no unfinished job or run of an eval needs it."""
    needed = exists().where(or_(Job.training_file == File.id, Job.validation_file == File.id), *unfinished())
    read = exists().where(EvalRun.file_id == File.id, EvalRun.finished_at.is_(None))
    return File.purpose.in_(PURPOSES), ~needed, ~read


def expiring(session: Session, project_id: str, what: What, days: float, now: float) -> Expiring:
    """Of rollouts, their archives and events the jobs whose they are, of evals' items their runs, else the
    things."""
    since, before = now - days * DAY, now - max(0.0, days - AHEAD_DAYS) * DAY
    if what == "files":
        by_policy = and_(File.created_at > since, File.created_at <= before)
        by_itself = and_(File.expires_at > now, File.expires_at <= now + AHEAD_DAYS * DAY)
        # One query each: of either there is an index, and of both together none.
        conditions = [by_policy, and_(by_itself, ~by_policy)] if days else [by_itself]
        found = [
            session.execute(
                select(func.count(), func.coalesce(func.sum(File.bytes), 0)).where(
                    File.project_id == project_id, condition, *file_may_go()
                )
            ).one()
            for condition in conditions
        ]
        return Expiring(sum(count for count, _ in found), sum(int(size) for _, size in found))
    if what == "eval_items":
        has_items = exists().where(EvalOutputItem.run_id == EvalRun.id)
        runs = select(func.count(EvalRun.id)).where(EvalRun.project_id == project_id, has_items)
        due = EvalRun.finished_at > since, EvalRun.finished_at <= before
        return Expiring(session.scalar(runs.where(*due)) or 0)
    ended = (Job.project_id == project_id, Job.finished_at > since, Job.finished_at <= before)
    if what == "checkpoints":
        query = select(func.count(Checkpoint.id)).join(Job, Job.id == Checkpoint.job_id)
        return Expiring(session.scalar(query.where(*ended, *checkpoint_may_go())) or 0)
    if what == "rollout_archives":
        jobs = func.count(RolloutArchive.job_id.distinct())
        archives = select(jobs, func.coalesce(func.sum(RolloutArchive.bytes), 0))
        owned = archives.join(Job, Job.id == RolloutArchive.job_id).where(*ended)
        count, size = session.execute(owned).one()
        return Expiring(count, int(size))
    table = Rollout if what == "rollouts" else JobEvent
    has_some = exists().where(table.job_id == Job.id)
    return Expiring(session.scalar(select(func.count(Job.id)).where(*ended, has_some)) or 0)
