"""What the operator lets a project use, each limit asked in one place.

Jobs at a time and GPU-hours: when a job is created or resumed, GPU-hours also while it runs. Storage: when a
file or a job comes. Requests a minute: ``app.keys.require_key``.
"""

import math
import time
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounting.counting import day_of
from app.core.errors import Forbidden
from app.core.tables import File, Job, Project, Usage

_HOUR = 3600.0
_OPERATOR = "The operator can change it: POST /v1/projects/{project_id} with an operator's key."


def check_storage(session: Session, project_id: str, added: int = 0) -> None:
    """Raise Forbidden where ``added`` bytes would be more than the project may keep."""
    limit = session.get_one(Project, project_id).max_bytes
    if limit is not None and (used := stored_bytes(session, project_id)) + added > limit:
        more = f" and {added:,} more would be added" if added else ""
        raise Forbidden(
            f"The project's files and runs take {used:,} bytes{more}; its limit is {limit:,}. Delete "
            f"files, jobs or checkpoints first. {_OPERATOR}",
            code="quota_exceeded",
        )


def stored_bytes(session: Session, project_id: str) -> int:
    """What a project's files and runs take on the disk."""
    sums = (
        select(func.coalesce(func.sum(size), 0)).where(project == project_id)
        for size, project in ((File.bytes, File.project_id), (Job.disk_bytes, Job.project_id))
    )
    return sum(int(session.scalar(one) or 0) for one in sums)


def check_gpu_hours(session: Session, project_id: str) -> None:
    """Raise Forbidden, with the seconds until next month, where this month's GPU-hours are used up."""
    if (problem := gpu_hours_used_up(session, project_id)) is not None:
        raise Forbidden(
            f"{problem} " + _OPERATOR,
            code="quota_exceeded",
            headers={"retry-after": str(math.ceil(next_month(time.time()) - time.time()))},
        )


def gpu_hours_used_up(session: Session, project_id: str) -> str | None:
    """What to say where a project has used this month's GPU-hours up; None where it has some left."""
    limit = session.get_one(Project, project_id).max_gpu_hours
    if limit is None:
        return None
    now = time.time()
    used = (
        session.scalar(
            select(func.sum(Usage.gpu_seconds)).where(
                Usage.project_id == project_id, Usage.day >= f"{day_of(now)[:7]}-01"
            )
        )
        or 0.0
    ) / _HOUR
    if used < limit:
        return None
    return (
        f"The project has used {used:.2f} GPU-hours this month; its limit is {limit:g}. The next month "
        f"begins on {day_of(next_month(now))} (UTC)."
    )


def next_month(when: float) -> float:
    """When the month after that of a time begins, in UTC."""
    today = datetime.fromtimestamp(when, UTC)
    year, month = (today.year + 1, 1) if today.month == 12 else (today.year, today.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp()
