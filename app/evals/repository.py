"""Rows of evals, of their runs, and of the runs' items."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.core.tables import DELETED_PROJECT, Eval, EvalOutputItem, EvalRun
from app.evals.schemas import Order

Listed = TypeVar("Listed", Eval, EvalRun)
#: What a comparison reads of an item: its key, whether it passed, its rewards.
Outcome = tuple[str, str, list[float | None]]


def find(session: Session, project_id: str, eval_id: str, *, lock: bool = False) -> Eval | None:
    """The project's eval; with ``lock`` nobody else changes it until the transaction ends."""
    query = select(Eval).where(Eval.id == eval_id, Eval.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).first()


def find_run(
    session: Session, project_id: str, eval_id: str, run_id: str, *, lock: bool = False
) -> EvalRun | None:
    """The eval's run; ``lock`` likewise."""
    query = select(EvalRun).where(
        EvalRun.id == run_id, EvalRun.eval_id == eval_id, EvalRun.project_id == project_id
    )
    return session.scalars(query.with_for_update() if lock else query).first()


def evals(
    session: Session,
    project_id: str,
    *,
    after: Eval | None,
    limit: int,
    order: Order,
    by: Literal["created_at", "updated_at"],
) -> Sequence[Eval]:
    """Up to ``limit`` evals that follow ``after``."""
    query = select(Eval).where(Eval.project_id == project_id)
    column = Eval.created_at if by == "created_at" else Eval.updated_at
    return session.scalars(_page(query, Eval, column, after, order).limit(limit)).all()


def runs(
    session: Session, eval_id: str, *, after: EvalRun | None, limit: int, order: Order, status: str | None
) -> Sequence[EvalRun]:
    """Up to ``limit`` runs that follow ``after``."""
    query = select(EvalRun).where(EvalRun.eval_id == eval_id, EvalRun.project_id != DELETED_PROJECT)
    if status is not None:
        query = query.where(EvalRun.status == status)
    return session.scalars(_page(query, EvalRun, EvalRun.created_at, after, order).limit(limit)).all()


def _page(
    query: Select[Listed],
    table: type[Listed],
    column: InstrumentedAttribute[float],
    after: Listed | None,
    order: Order,
) -> Select[Listed]:
    if after is not None:
        key, place = tuple_(column, table.id), tuple_(getattr(after, column.key), after.id)
        query = query.where(key < place if order == "desc" else key > place)
    if order == "desc":
        return query.order_by(column.desc(), table.id.desc())
    return query.order_by(column, table.id)


def items(
    session: Session,
    run_id: str,
    *,
    after: EvalOutputItem | None,
    limit: int,
    order: Order,
    status: str | None,
) -> Sequence[EvalOutputItem]:
    """Up to ``limit`` items that follow ``after``, in the order of their source."""
    query = select(EvalOutputItem).where(EvalOutputItem.run_id == run_id)
    if status is not None:
        query = query.where(EvalOutputItem.status == status)
    place = EvalOutputItem.position
    if after is not None:
        query = query.where(place < after.position if order == "desc" else place > after.position)
    return session.scalars(query.order_by(place.desc() if order == "desc" else place).limit(limit)).all()


def find_item(session: Session, run_id: str, item_id: str) -> EvalOutputItem | None:
    query = select(EvalOutputItem).where(EvalOutputItem.id == item_id, EvalOutputItem.run_id == run_id)
    return session.scalars(query).first()


def positions(session: Session, run_id: str) -> set[int]:
    """The places of the items that are done."""
    return set(session.scalars(select(EvalOutputItem.position).where(EvalOutputItem.run_id == run_id)))


def outcomes(session: Session, run_id: str) -> list[Outcome]:
    """Of every item that is done, in no order."""
    one = EvalOutputItem
    query = select(one.item_key, one.status, one.rewards).where(one.run_id == run_id)
    return [(key, status, rewards) for key, status, rewards in session.execute(query)]


def unfinished(session: Session, project_id: str) -> tuple[int, int]:
    """How many runs of the project have not ended, and how many items they have together."""
    query = select(func.count(), func.coalesce(func.sum(EvalRun.total), 0))
    count, total = session.execute(
        query.where(EvalRun.project_id == project_id, EvalRun.finished_at.is_(None))
    ).one()
    return count, int(total)


def unfinished_of(session: Session, eval_id: str) -> str | None:
    """A run of the eval that has not ended."""
    query = select(EvalRun.id).where(EvalRun.eval_id == eval_id, EvalRun.finished_at.is_(None))
    return session.scalars(query.limit(1)).first()


def remove_items(session: Session, run_id: str, most: int) -> int:
    """Remove up to ``most`` of a run's items, those that nobody else has locked; how many."""
    some: Any = select(EvalOutputItem.id).where(EvalOutputItem.run_id == run_id).limit(most)
    removed = session.execute(
        delete(EvalOutputItem)
        .where(EvalOutputItem.id.in_(some.with_for_update(skip_locked=True)))
        .returning(EvalOutputItem.id)
        .execution_options(synchronize_session=False)
    )
    return len(removed.all())
