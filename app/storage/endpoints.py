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

    count: int = Field(description="How many there are")


class CountAndBytes(Count):
    """How many there are, and their size together."""

    bytes: int = Field(description="Their size together, in bytes")


class Retention(BaseModel):
    """How long something is kept, and what of the project's goes next."""

    what: What = Field(
        description="What is removed: rollouts or events of ended jobs, their checkpoints but the result, "
        "uploaded files that no job needs, items of ended runs of evals"
    )
    days: float | None = Field(
        description="How long after the job's or the run's end, or the upload; null: the operator has it "
        "kept for ever"
    )
    expiring_count: int | None = Field(
        description=f"How many go within {AHEAD_DAYS} days: of rollouts and events the jobs whose they are, "
        "of evals' items the runs; null where nothing does"
    )
    expiring_bytes: int | None = Field(
        description="Their size together; null where things are not measured one by one"
    )


class LargeRun(BaseModel):
    """A job whose run takes much of the disk."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    name: str = Field(description="What people call the job")
    bytes: int = Field(description="What its run keeps on the disk")


class StorageUse(BaseModel):
    """What a project takes on the disk."""

    object: Kind[Literal["project.storage"]]
    project_id: str = Field(description="The project of the key that asks")
    files: CountAndBytes = Field(description="Uploaded files and results of jobs")
    jobs: CountAndBytes = Field(
        description="Jobs, with all that their runs keep on the disk: checkpoints, states to resume from, "
        "logs"
    )
    checkpoints: Count = Field(description="Saved checkpoints; their bytes are counted with the jobs")
    bytes: int = Field(description="Files and jobs together, in bytes")
    largest_jobs: list[LargeRun] = Field(description="The five whose runs take the most, the largest first")
    retention: list[Retention] = Field(description="What is removed by itself, and when")


@router.get("", **answers(StorageUse), **READ)
def storage_use(project: ProjectId) -> dict[str, object]:
    """Get how much of the disk the project uses, and what is removed by itself.

    Bytes of its files and of its runs: checkpoints, states to resume from, logs.
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
