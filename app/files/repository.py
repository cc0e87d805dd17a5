"""Rows of files."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Row, func, or_, select, tuple_
from sqlalchemy.orm import Session

from app.core.tables import EvalRun, File, Job, Project
from app.core.unfinished import unfinished
from app.files.schemas import PURPOSES, SHOWN


def find(session: Session, project_id: str, file_id: str, *, lock: bool = False) -> File | None:
    """The project's file; with ``lock`` nobody removes it until the transaction ends."""
    query = select(File).where(File.id == file_id, File.project_id == project_id)
    return session.scalars(query.with_for_update(read=True) if lock else query).first()


def listing(
    session: Session,
    project_id: str,
    *,
    after: File | None,
    limit: int,
    order: Literal["asc", "desc"],
    purpose: str | None,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The shown columns of up to ``limit`` files that follow ``after``."""
    query = select(*SHOWN).where(File.project_id == project_id)
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
    return session.execute(query.limit(limit)).all()


def uploaded(session: Session, project_id: str) -> tuple[int, int]:
    """How many files the project has uploaded, and how many bytes they have together."""
    query = select(func.count(), func.coalesce(func.sum(File.bytes), 0))
    count, size = session.execute(
        query.where(File.project_id == project_id, File.purpose.in_(PURPOSES))
    ).one()
    return count, int(size)


def lock_project(session: Session, project_id: str) -> None:
    """Until the transaction ends nobody else adds a file to the project."""
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update())


def unfinished_user(session: Session, file_id: str) -> tuple[str, str] | None:
    """Who still needs the file: what it is, a job or a run of an eval, and its id."""
    uses = or_(Job.training_file == file_id, Job.validation_file == file_id)
    job = session.scalars(select(Job.id).where(*unfinished(), uses).limit(1)).first()
    if job is not None:
        return "job", job
    run = select(EvalRun.id).where(EvalRun.file_id == file_id, EvalRun.finished_at.is_(None))
    found = session.scalars(run.limit(1)).first()
    return None if found is None else ("run", found)
