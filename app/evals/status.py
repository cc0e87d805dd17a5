"""The one place where the status of an eval's run changes, with its webhooks, in one transaction."""

import time
from typing import get_args

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.core.strict_json import JsonObject
from app.core.tables import EvalRun
from app.evals.schemas import RunStatus
from app.webhooks.outbox import announce_end

#: A worker holds the run's lease in these.
HELD = ("in_progress", "pausing")
WAITING = ("queued", "paused")
_FINAL = ("completed", "failed", "canceled")
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "queued": ("in_progress", "paused", *_FINAL),
    # To queued: its worker was lost, or is shutting down.
    "in_progress": ("queued", "pausing", "paused", *_FINAL),
    "pausing": ("queued", "paused", *_FINAL),
    "paused": ("queued", "canceled"),
    **dict.fromkeys(_FINAL, ()),
}
assert TRANSITIONS.keys() == set(get_args(RunStatus))
_EVENTS = {"completed": "succeeded", "failed": "failed", "canceled": "canceled"}


class IllegalTransition(Exception):
    """The table does not allow this change."""


def is_terminal(status: str) -> bool:
    return status in _FINAL


def change_status(session: Session, run: EvalRun, new: RunStatus, *, error: JsonObject | None = None) -> None:
    """Move ``run`` to ``new``; the caller commits. ``error`` is why, of a run that failed.

    A run that no worker holds any more has no lease. Raises IllegalTransition when the table forbids it, also
    when another transaction changed the status since ``run`` was read.
    """
    old, now = run.status, time.time()
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"run {run.id} is {old} and cannot become {new}")
    values: JsonObject = {"status": new}
    if new not in HELD:
        values |= {"lease_owner": None, "lease_expires_at": None, "pause_requested": False}
    if is_terminal(new):
        values |= {"finished_at": now, "error": error}
    session.flush()
    changed = session.scalar(
        update(EvalRun)
        .where(EvalRun.id == run.id, EvalRun.status == old)
        .values(**values)
        .returning(EvalRun.id)
        .execution_options(synchronize_session=False)
    )
    if changed is None:
        raise IllegalTransition(f"run {run.id} is no longer {old}, and cannot become {new}")
    session.refresh(run)
    if is_terminal(new):
        announce_end(session, run.project_id, f"eval.run.{_EVENTS[new]}", run.id, now)
