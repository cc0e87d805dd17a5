"""The log of a job: what happened, in the order that readers see it."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Insert, String, bindparam, insert, literal, select
from sqlalchemy.orm import Session

from app.core.ids import new_event_id
from app.core.tables import Double, Job, JobEvent

Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]


def add_event(
    session: Session,
    job_id: str,
    level: Level,
    type: EventType,
    message: str,
    data: dict[str, object] | None = None,
    *,
    now: float | None = None,
    is_locked: bool = False,
) -> None:
    """Append an event to a job's log. ``is_locked``: the transaction has locked the job's row already."""
    if not is_locked:
        _lock(session, [job_id])
    _write(session, [_row(job_id, time.time() if now is None else now, message, data, level, type)])


def add_messages(session: Session, messages: Mapping[str, tuple[str, dict[str, object]]]) -> None:
    """Append to the log of each job a text with its data: two statements, however many jobs."""
    if not messages:
        return
    now = time.time()
    _lock(session, messages)
    _write(session, [_row(job_id, now, text, data) for job_id, (text, data) in messages.items()])


def appending(jobs: FromClause, message: ColumnElement[str], data: ColumnElement[Any]) -> Insert:
    """The statement that appends a message to the log of a job whose row its transaction has locked: what the
    database knows of it is not sent there and back. ``jobs`` gives its ``id``; ``now`` and the event's id,
    ``event_id``, are parameters."""
    event_id, now = bindparam("event_id", type_=String), bindparam("now", type_=Double)
    level, type_ = literal("info"), literal("message")
    columns = ["id", "job_id", "created_at", "level", "type", "message", "data"]
    values = select(event_id, jobs.c.id, now, level, type_, message, data)
    return insert(JobEvent).from_select(columns, values)


def _row(
    job_id: str,
    now: float,
    message: str,
    data: dict[str, object] | None,
    level: Level = "info",
    type: EventType = "message",
) -> dict[str, object]:
    return {
        "id": new_event_id(),
        "job_id": job_id,
        "created_at": now,
        "level": level,
        "type": type,
        "message": message.replace("\x00", "\ufffd"),
        "data": data,
    }


def _write(session: Session, rows: list[dict[str, object]]) -> None:
    session.flush()
    # Not by the session, whose way takes longer than the statement.
    session.connection().execute(insert(JobEvent), rows)


def _lock(session: Session, job_ids: Iterable[str]) -> None:
    """Whoever holds a job's row draws the next sequence number, so that events become visible in the order of
    their numbers and a reader that asks "after n" misses none. SQLite has one writer anyway."""
    query = select(Job.id).where(Job.id.in_(job_ids)).order_by(Job.id)
    session.execute(query.with_for_update())
