"""Removing what is left of deleted evals and runs, some rows at a time."""

import logging
from collections.abc import Callable

from sqlalchemy import delete, select

from app.core.db import read_session, write_session
from app.core.tables import DELETED_PROJECT, Eval, EvalRun
from app.evals.repository import remove_items

#: Items that go in one transaction; each may have a long answer.
ROWS = 200
_log = logging.getLogger("app")


def remove_deleted(stops: Callable[[], bool] = lambda: False) -> None:
    """Remove deleted runs and evals with all that they own. Any number of workers may do it at once.

    ``stops`` is asked between two transactions; whoever comes next goes on.
    """
    while not stops():
        with read_session() as session:
            query = select(EvalRun.id).where(EvalRun.project_id == DELETED_PROJECT)
            run_id = session.scalars(query.limit(1)).first()
        if run_id is None:
            break
        if not remove_all_items(run_id, stops):
            return
        with write_session() as session:
            session.execute(delete(EvalRun).where(EvalRun.id == run_id))
        _log.info("%s has been removed", run_id)
    with read_session() as session:
        gone = session.scalars(select(Eval.id).where(Eval.project_id == DELETED_PROJECT).limit(ROWS)).all()
    if gone and not stops():
        with write_session() as session:
            has_runs = select(EvalRun.id).where(EvalRun.eval_id == Eval.id).exists()
            session.execute(delete(Eval).where(Eval.id.in_(gone), ~has_runs))


def remove_all_items(run_id: str, stops: Callable[[], bool]) -> bool:
    """Whether all of a run's items are gone; not where it was to stop before."""
    while not stops():
        with write_session() as session:
            removed = remove_items(session, run_id, ROWS)
        if not removed:
            return True
    return False
