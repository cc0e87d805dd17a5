"""Rows of files."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session

from app.jobs.status import TERMINAL
from app.tables import File, Job


def find(session: Session, project_id: str, file_id: str) -> File | None:
    return session.scalars(select(File).where(File.id == file_id, File.project_id == project_id)).first()


def listing(
    session: Session,
    project_id: str,
    *,
    after: File | None,
    limit: int,
    order: Literal["asc", "desc"],
    purpose: str | None,
) -> Sequence[File]:
    """Up to ``limit`` files that follow ``after``."""
    query = select(File).where(File.project_id == project_id)
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    key = tuple_(File.created_at, File.id)
    if after is not None:
        place = tuple_(after.created_at, after.id)
        query = query.where(key < place if order == "desc" else key > place)
    if order == "desc":
        query = query.order_by(File.created_at.desc(), File.id.desc())
    else:
        query = query.order_by(File.created_at, File.id)
    return session.scalars(query.limit(limit)).all()


def unfinished_job_using(session: Session, file_id: str) -> str | None:
    """The id of a job that still needs the file."""
    return session.scalars(
        select(Job.id)
        .where(
            Job.status.not_in([status.value for status in TERMINAL]),
            or_(Job.training_file == file_id, Job.validation_file == file_id),
        )
        .limit(1)
    ).first()
