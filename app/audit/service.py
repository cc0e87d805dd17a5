"""What the audit log tells whom: a project's keys of their own project, the operator of all."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from app.audit.schemas import entry_view
from app.core.audit import Change
from app.core.db import read_session
from app.core.paging import unknown_cursor
from app.core.tables import AuditEntry, Project
from app.keys.access import seen_of
from app.keys.repository import Caller

#: Entries that go in one transaction.
ROWS = 500


@dataclass(frozen=True)
class Filter:
    """Which changes; None is any. ``since`` ≤ time < ``until``, Unix times."""

    project_ids: Sequence[str] | None = None
    types: Sequence[Change] | None = None
    actor_ids: Sequence[str] | None = None
    object_ids: Sequence[str] | None = None
    since: int | None = None
    until: int | None = None


def listing(caller: Caller, wanted: Filter, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 entries, newest first; raises NotFound for a project of others."""
    place = tuple_(AuditEntry.at, AuditEntry.id)
    query = select(AuditEntry, Project.name).join(Project)
    for column, among in (
        (AuditEntry.project_id, seen_of(caller, wanted.project_ids or ())),
        (AuditEntry.type, wanted.types),
        (AuditEntry.actor_id, wanted.actor_ids),
        (AuditEntry.object_id, wanted.object_ids),
    ):
        if among:
            query = query.where(column.in_(among))
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    with read_session() as session:
        if after is not None:
            cursor = session.get(AuditEntry, after)
            if cursor is None or (not caller.operator and cursor.project_id != caller.project_id):
                raise unknown_cursor(after)
            query = query.where(place < tuple_(cursor.at, cursor.id))
        rows = session.execute(query.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit + 1))
        return [entry_view(entry, name) for entry, name in rows]


def remove_old(session: Session, before: float) -> int:
    """Forget some entries of before ``before``; how many."""
    some = select(AuditEntry.id).where(AuditEntry.at < before).order_by(AuditEntry.at).limit(ROWS)
    gone = delete(AuditEntry).where(AuditEntry.id.in_(some)).returning(AuditEntry.id)
    return len(session.scalars(gone.execution_options(synchronize_session=False)).all())
