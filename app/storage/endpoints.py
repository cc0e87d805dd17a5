"""``/v1/storage``: how much of the disk a project uses."""

import time
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import Kind, answers
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.core.tables import File, Job
from app.storage.expiry import AHEAD_DAYS, What, expiring, kept_days

router = APIRouter(prefix="/v1/storage", tags=["storage"], route_class=StrictRoute)

_LARGEST = 5


class Count(BaseModel):
    """How many there are."""

    count: int = Field(description="The number of these")


class CountAndBytes(Count):
    """How many there are, and their size together."""

    bytes: int = Field(description="Their total size in bytes")


class Retention(BaseModel):
    """How long something is kept, and how much of the project's is removed next."""

    what: What = Field(
        description="What is removed: rollouts of ended jobs, archives of rollouts, events, checkpoints "
        "other than the result, uploaded files that no job needs, items of ended eval runs"
    )
    days: float | None = Field(
        description="How long after the end of the job or run, or the upload; null: never"
    )
    expiring_count: int | None = Field(
        description=f"How many will be removed within {AHEAD_DAYS} days: for rollouts, their archives and "
        "events, the number of jobs; for eval items, of runs; null if nothing is ever removed"
    )
    expiring_bytes: int | None = Field(
        description="Their total size in bytes; null if not measured individually"
    )


class LargeRun(BaseModel):
    """A job whose run takes up much of the disk."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    name: str = Field(description="Display name of the job")
    bytes: int = Field(description="Bytes its run keeps on disk")


class StorageUse(BaseModel):
    """A project's disk usage."""

    object: Kind[Literal["project.storage"]]
    project_id: str = Field(description="The project of the requesting key")
    files: CountAndBytes = Field(description="Uploaded files and jobs' result files")
    jobs: CountAndBytes = Field(
        description="Jobs, with everything their runs keep: checkpoints, states to resume from, archives of "
        "rollouts, logs"
    )
    checkpoints: Count = Field(description="Saved checkpoints; their bytes are included in the jobs'")
    bytes: int = Field(description="Total of files and jobs, in bytes")
    largest_jobs: list[LargeRun] = Field(
        description="The five jobs whose runs take the most space, largest first"
    )
    retention: list[Retention] = Field(description="What is removed automatically, and when")


@router.get("", **answers(StorageUse), **READ)
def storage_use(project: ProjectId) -> dict[str, object]:
    """Get the project's disk usage, and what is removed automatically.

    Bytes of its files and its runs: checkpoints, states to resume from, archives of rollouts, logs.
    """
    return used(project)


def used(project_id: str) -> dict[str, object]:
    """The storage object. Runs are measured by their workers: each minute, and when an attempt ends."""
    with read_session() as session:
        files, file_bytes = session.execute(
            select(func.count(), func.coalesce(func.sum(File.bytes), 0)).where(File.project_id == project_id)
        ).one()
        run_sums = func.coalesce(func.sum(Job.disk_bytes), 0), func.coalesce(func.sum(Job.checkpoints), 0)
        jobs, run_bytes, checkpoints = session.execute(
            select(func.count(), run_sums[0], run_sums[1]).where(Job.project_id == project_id)
        ).one()
        largest = session.execute(
            select(Job.id, Job.name, Job.disk_bytes)
            .where(Job.project_id == project_id, Job.disk_bytes > 0)
            .order_by(Job.disk_bytes.desc())
            .limit(_LARGEST)
        ).all()
        kept = [_kept(session, project_id, what, days) for what, days in kept_days().items()]
    return {
        "object": "project.storage",
        "project_id": project_id,
        "files": {"count": files, "bytes": int(file_bytes)},
        "jobs": {"count": jobs, "bytes": int(run_bytes)},
        "checkpoints": {"count": int(checkpoints)},
        "bytes": int(file_bytes) + int(run_bytes),
        "largest_jobs": [{"id": one.id, "name": one.name, "bytes": one.disk_bytes} for one in largest],
        "retention": kept,
    }


def _kept(session: Session, project_id: str, what: What, days: float) -> dict[str, object]:
    # Files have times of their own, too.
    soon = expiring(session, project_id, what, days, time.time()) if days or what == "files" else None
    return {
        "what": what,
        "days": days or None,
        "expiring_count": None if soon is None else soon.count,
        "expiring_bytes": None if soon is None else soon.bytes,
    }
