"""Rows of rollouts: written by the worker, read by the API."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session, defer

from app.tables import Rollout
from app.upsert import insert_for
from trainer.events import RolloutRecord

_ROWS_A_STATEMENT = 500
_KEY = ("job_id", "step", "group", "index")


def upsert_rollouts(session: Session, job_id: str, step: int, records: list[RolloutRecord]) -> None:
    """Record the rollouts of a step; a repetition overwrites, one row for each (step, group, index)."""
    rows = [_row(job_id, step, record) for record in records]
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        statement = insert_for(session, Rollout).values(rows[start : start + _ROWS_A_STATEMENT])
        replaced = {name: statement.excluded[name] for name in rows[0] if name not in _KEY}
        session.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=replaced))


def _row(job_id: str, step: int, record: RolloutRecord) -> dict[str, object]:
    return {
        "job_id": job_id,
        "step": step,
        "group": record.group,
        "index": record.index,
        "item": record.item,
        "mode": record.mode.value,
        "prompt": _storable(record.prompt),
        "response": _storable(record.response),
        "reward": record.reward,
        "tokens": record.tokens,
        "truncated": record.truncated,
        "details": {
            "scores": record.scores,
            "dropped": record.dropped,
            "logprobs": record.logprobs,
            "entropies": record.entropies,
            "token_texts": record.token_texts,
        },
    }


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL, and a model may well produce one."""
    return text.replace("\x00", "\ufffd")


@dataclass(frozen=True)
class Filter:
    """Which rollouts to list; None does not restrict."""

    step: int | None = None
    group: int | None = None
    mode: str | None = None
    item: int | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    search: str | None = None


def find(session: Session, job_id: str, number: int) -> Rollout | None:
    return session.scalars(select(Rollout).where(Rollout.id == number, Rollout.job_id == job_id)).first()


def listing(
    session: Session, job_id: str, wanted: Filter, *, after: Rollout | None, limit: int
) -> Sequence[Rollout]:
    """Up to ``limit`` rollouts in the order of step, group and index; without their per-token details."""
    query = select(Rollout).options(defer(Rollout.details, raiseload=True)).where(Rollout.job_id == job_id)
    for column, value in (
        (Rollout.step, wanted.step),
        (Rollout.group, wanted.group),
        (Rollout.mode, wanted.mode),
        (Rollout.item, wanted.item),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.min_reward is not None:
        query = query.where(Rollout.reward >= wanted.min_reward)
    if wanted.max_reward is not None:
        query = query.where(Rollout.reward <= wanted.max_reward)
    if wanted.search is not None:
        texts = (Rollout.prompt, Rollout.response)
        query = query.where(or_(*(text.icontains(wanted.search, autoescape=True) for text in texts)))
    key = (Rollout.step, Rollout.group, Rollout.index)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(after.step, after.group, after.index))
    return session.scalars(query.order_by(*key).limit(limit)).all()
