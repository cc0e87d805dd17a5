"""What can be asked about a job's rollouts."""

from typing import Any

from app.core.db import read_session
from app.core.errors import NotFound
from app.core.paging import unknown_cursor
from app.core.tables import Rollout
from app.jobs.service import found
from app.rollouts import repository
from app.rollouts.repository import Filter

_PREFIX = "rollout-"


def listing(
    project_id: str, job_id: str, wanted: Filter, *, after: str | None, limit: int
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 rollouts, without their per-token values."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        cursor = None
        if after is not None and (cursor := repository.find(session, job.id, _number(after))) is None:
            raise unknown_cursor(after)
        rows = repository.listing(session, job.id, wanted, after=cursor, limit=limit + 1)
        return [_view(row) for row in rows]


def retrieve(project_id: str, job_id: str, rollout_id: str) -> dict[str, Any]:
    """One rollout with its scores, and each token's text, log-probability and entropy (nats)."""
    with read_session() as session:
        job = found(session, project_id, job_id)
        row = repository.find(session, job.id, _number(rollout_id))
        if row is None:
            raise NotFound(f"No such rollout: '{rollout_id}'.", param="rollout_id")
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


def _number(rollout_id: str) -> int:
    digits = rollout_id.removeprefix(_PREFIX)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else -1


def _view(row: Rollout) -> dict[str, Any]:
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
