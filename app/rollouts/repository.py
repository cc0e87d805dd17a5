"""Rows of rollouts: written by the worker, read by the API."""

from collections.abc import Sequence

from sqlalchemy import Select, or_, select, text, tuple_
from sqlalchemy.orm import Session, defer

from app.core.settings import get_settings
from app.core.tables import Rollout
from app.core.upsert import upsert_rows
from app.rollouts.filters import Filter, Key
from trainer.spec.events import RolloutRecord

#: Of a search, how many rollouts are looked at in order before the index is asked.
LOOKED_AT = 1_000
#: The shortest text that an index of trigrams has.
_TRIGRAM = 3
_KEY = ("job_id", "step", "group", "index")


def upsert_rollouts(session: Session, job_id: str, step: int, records: list[RolloutRecord]) -> None:
    """Record the rollouts of a step; a repetition overwrites, one row for each (step, group, index)."""
    upsert_rows(session, Rollout, _KEY, [_row(job_id, step, record) for record in records])


def kept(records: list[RolloutRecord]) -> list[RolloutRecord]:
    """Those of a step that become rows, ``POLICYSPLIT_STEP_ROLLOUTS`` at most: whole groups, evenly spread.

    The first group is always one of them. The same at each repetition of the step.
    """
    most = get_settings().step_rollouts
    if not most or len(records) <= most:
        return records
    groups: dict[int, list[RolloutRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    numbers = sorted(groups)
    count = max(1, most * len(numbers) // len(records))
    return [one for place in range(count) for one in groups[numbers[place * len(numbers) // count]]]


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
        "entropy": _mean(record.entropies),
        "surprisal": _mean([-value for value in record.logprobs]),
        "details": {
            "scores": record.scores,
            "parse_error": None if record.parse_error is None else _storable(record.parse_error),
            "dropped": record.dropped,
            "logprobs": record.logprobs,
            "entropies": record.entropies,
            "token_texts": record.token_texts,
        },
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL, and a model may well produce one."""
    return text.replace("\x00", "\ufffd")


def find(session: Session, job_id: str, number: int) -> Rollout | None:
    return session.scalars(select(Rollout).where(Rollout.id == number, Rollout.job_id == job_id)).first()


def listing(
    session: Session, job_id: str, wanted: Filter, *, after: Key | None, limit: int
) -> Sequence[Rollout]:
    """Up to ``limit`` rollouts in the order of step, group and index; without their per-token details."""
    query = select(Rollout).options(defer(Rollout.details, raiseload=True)).where(Rollout.job_id == job_id)
    query = wanted.narrowed(query)
    key = (Rollout.step, Rollout.group, Rollout.index)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    if wanted.search is None:
        return session.scalars(query.order_by(*key).limit(limit)).all()
    return _searched(session, query, wanted.search, limit)


def next_rows(
    session: Session, job_id: str, *, after: Key | None, limit: int, step: int | None = None
) -> Sequence[Rollout]:
    """The next ``limit`` rollouts in the order of their keys, with their details."""
    key = (Rollout.step, Rollout.group, Rollout.index)
    query = Filter(step=step).narrowed(select(Rollout).where(Rollout.job_id == job_id))
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    return session.scalars(query.order_by(*key).limit(limit)).all()


def _searched(session: Session, query: Select[Rollout], words: str, limit: int) -> Sequence[Rollout]:
    """The first of the rollouts of ``query`` that have ``words``.

    What many have is among the first few. What is rare is found through the index of the texts, of which
    PostgreSQL would rather read all in order, as it does for what is frequent.
    """
    key = (Rollout.step, Rollout.group, Rollout.index)
    texts = (Rollout.prompt, Rollout.response)
    matches = or_(*(column.icontains(words, autoescape=True) for column in texts))
    first = query.with_only_columns(Rollout.id, *key).order_by(*key).limit(LOOKED_AT).subquery()
    near = query.where(matches, Rollout.id.in_(select(first.c.id))).order_by(*key).limit(limit)
    found = session.scalars(near).all()
    if len(found) == limit:
        return found
    if session.get_bind().dialect.name == "sqlite":
        if len(words) >= _TRIGRAM:
            phrase = '"' + words.replace('"', '""') + '"'
            indexed = text(
                "rollouts.id IN (SELECT rowid FROM rollouts_search WHERE rollouts_search MATCH :phrase)"
            )
            query = query.where(indexed.bindparams(phrase=phrase))
        return session.scalars(query.where(matches).order_by(*key).limit(limit)).all()
    # Materialized, the limit does not reach into it.
    ids = query.with_only_columns(Rollout.id).where(matches).cte("found").prefix_with("MATERIALIZED")
    loaded = select(Rollout).options(defer(Rollout.details, raiseload=True)).join(ids, ids.c.id == Rollout.id)
    return session.scalars(loaded.order_by(*key).limit(limit)).all()
