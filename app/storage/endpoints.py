"""``/v1/storage``: how much of the disk a project uses."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import Kind, answers
from app.core.requests import StrictRoute
from app.core.tables import File, Job

router = APIRouter(prefix="/v1/storage", tags=["storage"], route_class=StrictRoute)


class Count(BaseModel):
    """How many there are."""

    count: int = Field(description="How many there are")


class CountAndBytes(Count):
    """How many there are, and their size together."""

    bytes: int = Field(description="Their size together, in bytes")


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


@router.get("", **answers(StorageUse))
def storage_use(project: ProjectId) -> dict[str, object]:
    """Get how much of the disk the project uses.

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
    return {
        "object": "project.storage",
        "project_id": project_id,
        "files": {"count": files, "bytes": int(file_bytes)},
        "jobs": {"count": jobs, "bytes": int(run_bytes)},
        "checkpoints": {"count": int(checkpoints)},
        "bytes": int(file_bytes) + int(run_bytes),
    }
