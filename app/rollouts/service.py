"""What can be asked about a job's rollouts: of rows, or of the archive that stands in for them."""

from collections.abc import Callable, Iterator

from pydantic_core import to_json

from app.core.db import read_session
from app.core.errors import NotFound
from app.core.paging import unknown_cursor
from app.core.strict_json import JsonObject
from app.core.tables import Rollout
from app.jobs.service import found
from app.rollouts import archive, repository
from app.rollouts.filters import Filter, Key, key_of

_PREFIX = "rollout-"
#: Of a download, in one transaction.
_ROWS = 50


def listing(
    project_id: str, job_id: str, wanted: Filter, *, after: str | None, limit: int
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 rollouts, without their per-token values."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        if not (parts := archive.parts_of(session, job.id)):
            place = _place(after, lambda number: repository.find(session, job.id, number))
            rows = repository.listing(session, job.id, wanted, after=place, limit=limit + 1)
            return [_view(row) for row in rows]
    place = _place(after, lambda number: archive.find(parts, number))
    return [_view(row) for row in archive.listing(parts, wanted, after=place, limit=limit + 1)]


def retrieve(project_id: str, job_id: str, rollout_id: str) -> JsonObject:
    """One rollout with its scores, and each token's text, log-probability and entropy (nats)."""
    number = _number(rollout_id)
    with read_session() as session:
        job = found(session, project_id, job_id)
        parts = archive.parts_of(session, job.id)
        row = None if parts else repository.find(session, job.id, number)
    if parts:
        row = archive.find(parts, number, whole=True)
    if row is None:
        raise NotFound(f"No such rollout: '{rollout_id}'.", param="rollout_id")
    return _whole(row)


def jsonl_lines(project_id: str, job_id: str, step: int | None) -> Iterator[bytes]:
    """All of a job's rollouts, or those of a step, as :func:`retrieve` has each: JSON, one a line.

    What moves to the archive meanwhile is gone on with there.
    """
    with read_session() as session:
        found(session, project_id, job_id)
    return (to_json(_whole(row), inf_nan_mode="null") + b"\n" for row in _every(job_id, step))


def _every(job_id: str, step: int | None) -> Iterator[Rollout]:
    after: Key | None = None
    while True:
        with read_session() as session:
            parts = archive.parts_of(session, job_id)
            rows = [] if parts else repository.next_rows(session, job_id, after=after, limit=_ROWS, step=step)
        if parts:
            yield from archive.every(parts, Filter(step=step), after)
            return
        yield from rows
        if len(rows) < _ROWS:
            return
        after = key_of(rows[-1])


def _place(after: str | None, find: Callable[[int], Rollout | None]) -> Key | None:
    if after is None:
        return None
    if (row := find(_number(after))) is None:
        raise unknown_cursor(after)
    return key_of(row)


def _number(rollout_id: str) -> int:
    digits = rollout_id.removeprefix(_PREFIX)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else -1


def _view(row: Rollout) -> JsonObject:
    return {
        "id": f"{_PREFIX}{row.id}",
        "object": "fine_tuning.job.rollout",
        "fine_tuning_job_id": row.job_id,
        "step": row.step,
        "group": row.group,
        "index": row.index,
        "item": row.item,
        "mode": row.mode,
        "prompt": row.prompt,
        "response": row.response,
        "reward": row.reward,
        "tokens": row.tokens,
        "truncated": row.truncated,
        "entropy": row.entropy,
        "surprisal": row.surprisal,
    }


def _whole(row: Rollout) -> JsonObject:
    details = row.details
    # A response that was not scored, since its group was dropped, has no entropies.
    entropies = details["entropies"] or [None] * len(details["token_texts"])
    tokens = zip(details["token_texts"], details["logprobs"], entropies, strict=True)
    return {
        **_view(row),
        "scores": details["scores"],
        "parse_error": details.get("parse_error"),
        "dropped": details.get("dropped", False),
        "token_details": [
            {"text": text, "logprob": logprob, "entropy": entropy} for text, logprob, entropy in tokens
        ],
    }
