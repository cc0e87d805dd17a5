"""What can be done with runs of evals: create, look at, cancel, pause, resume, delete."""

from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict, NotFound
from app.core.nowhere import have_nowhere
from app.core.paging import unknown_cursor
from app.core.strict_json import JsonObject
from app.core.tables import DELETED_PROJECT, Eval, EvalRun
from app.evals import repository
from app.evals.schemas import ItemStatus, Order, RunStatus
from app.evals.service import found
from app.evals.status import HELD, WAITING, change_status, is_terminal
from app.evals.views import item_view, run_view


def retrieve(project_id: str, eval_id: str, run_id: str, page: str) -> JsonObject:
    """The run, with the rows that its request brought; raises NotFound."""
    with read_session() as session:
        of = found(session, project_id, eval_id)
        row = found_run(session, project_id, eval_id, run_id)
        return run_view(row, of.testing_criteria, page, rows=True)


def listing(
    project_id: str,
    eval_id: str,
    *,
    after: str | None,
    limit: int,
    order: Order,
    status: RunStatus | None,
    page: str,
) -> list[JsonObject]:
    """Up to ``limit`` + 1 runs."""
    with read_session() as session:
        of = found(session, project_id, eval_id)
        cursor = None
        if after is not None and (cursor := repository.find_run(session, project_id, eval_id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.runs(session, eval_id, after=cursor, limit=limit + 1, order=order, status=status)
        return [run_view(row, of.testing_criteria, page) for row in rows]


def cancel(project_id: str, eval_id: str, run_id: str, page: str) -> JsonObject:
    """Cancel at once what waits; ask the worker of what runs, which takes seconds."""
    with write_session() as session:
        of, row = _locked(session, project_id, eval_id, run_id)
        if is_terminal(row.status):
            raise _cannot("cancel", row, "only a run that has not ended can be canceled")
        if not row.cancel_requested:
            record(session, "eval.run.canceled", run_id, project_id)
        row.cancel_requested = True
        if row.status in WAITING:
            change_status(session, row, "canceled")
        return run_view(row, of.testing_criteria, page)


def pause(project_id: str, eval_id: str, run_id: str, page: str) -> JsonObject:
    """Pause at once what is queued; have the worker of what runs stop, which takes seconds."""
    with write_session() as session:
        of, row = _locked(session, project_id, eval_id, run_id)
        if row.status == "queued":
            change_status(session, row, "paused")
        elif row.status == "in_progress" and not row.cancel_requested:
            row.pause_requested = True
            change_status(session, row, "pausing")
        elif row.status not in ("pausing", "paused"):
            raise _cannot("pause", row, "only a run that is queued or in progress can be paused")
        record(session, "eval.run.paused", run_id, project_id)
        return run_view(row, of.testing_criteria, page)


def resume(project_id: str, eval_id: str, run_id: str, page: str) -> JsonObject:
    """Queue a paused run again; it goes on with the items that are not done."""
    with write_session() as session:
        of, row = _locked(session, project_id, eval_id, run_id)
        if row.status != "paused":
            raise _cannot("resume", row, "only a paused run can be resumed")
        change_status(session, row, "queued")
        record(session, "eval.run.resumed", run_id, project_id)
        return run_view(row, of.testing_criteria, page)


def delete(project_id: str, eval_id: str, run_id: str) -> dict[str, object]:
    """Remove a run that is over; raises NotFound or Conflict. Its items go behind."""
    with write_session() as session:
        _, row = _locked(session, project_id, eval_id, run_id)
        if not is_terminal(row.status):
            raise Conflict(
                f"The run '{run_id}' is {row.status}. Cancel it before deleting it.",
                param="run_id",
                code="run_not_finished",
            )
        have_nowhere(session)
        record(session, "eval.run.deleted", run_id, project_id, name=row.name)
        row.project_id, row.idempotency_key = DELETED_PROJECT, None
    return {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


def items(
    project_id: str,
    eval_id: str,
    run_id: str,
    *,
    after: str | None,
    limit: int,
    order: Order,
    status: ItemStatus | None,
) -> list[JsonObject]:
    """Up to ``limit`` + 1 items, in the order of their source."""
    with read_session() as session:
        found_run(session, project_id, eval_id, run_id)
        cursor = None
        if after is not None and (cursor := repository.find_item(session, run_id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.items(session, run_id, after=cursor, limit=limit + 1, order=order, status=status)
        return [item_view(row, eval_id) for row in rows]


def item(project_id: str, eval_id: str, run_id: str, item_id: str) -> JsonObject:
    """The item; raises NotFound."""
    with read_session() as session:
        found_run(session, project_id, eval_id, run_id)
        row = repository.find_item(session, run_id, item_id)
        if row is None:
            raise NotFound(f"No such output item: '{item_id}'.", param="output_item_id")
        return item_view(row, eval_id)


def found_run(session: Session, project_id: str, eval_id: str, run_id: str, *, lock: bool = False) -> EvalRun:
    """The run's row; raises NotFound."""
    row = repository.find_run(session, project_id, eval_id, run_id, lock=lock)
    if row is None:
        raise NotFound(f"No such run of the eval '{eval_id}': '{run_id}'.", param="run_id")
    return row


def _locked(session: Session, project_id: str, eval_id: str, run_id: str) -> tuple[Eval, EvalRun]:
    of = found(session, project_id, eval_id)
    return of, found_run(session, project_id, eval_id, run_id, lock=True)


def _cannot(action: str, row: EvalRun, rule: str) -> BadRequest:
    status = "about to be canceled" if row.cancel_requested and row.status in HELD else row.status
    return BadRequest(
        f"Cannot {action} run '{row.id}': it is {status}, and {rule}.",
        param="run_id",
        code="invalid_run_status",
    )
