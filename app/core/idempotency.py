"""``Idempotency-Key``: the same request under the same key makes nothing new and gets what the first made."""

import hashlib
import json
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import BadRequest, Conflict
from app.core.tables import Eval, EvalRun, Experiment, Job
from app.core.validation import abbreviated

Made = TypeVar("Made", Job, Experiment, Eval, EvalRun)
_MAX_KEY = 255
_HEADER = "Idempotency-Key"


def check_key(key: str | None) -> None:
    """Raise BadRequest for a key that cannot be one."""
    if key is not None and not 0 < len(key) <= _MAX_KEY:
        raise BadRequest(
            f"Invalid header '{_HEADER}': it has {len(key)} characters; it may have 1 to {_MAX_KEY}.",
            param=_HEADER,
        )


def request_digest(request: BaseModel) -> str:
    """Two requests that say the same have the same digest."""
    body = request.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def made_before(
    session: Session, table: type[Made], project_id: str, key: str | None, digest: str
) -> Made | None:
    """What the project's first request with ``key`` made; None without a key, or when this is the first.

    Raises Conflict when that request was another one.
    """
    if key is None:
        return None
    made = session.scalars(
        select(table).where(table.project_id == project_id, table.idempotency_key == key)
    ).first()
    if made is not None and made.request_sha256 != digest:
        raise Conflict(
            f"The header '{_HEADER}' has the value {abbreviated(key)}, with which "
            f"{table.__name__.lower()} '{made.id}' was created from a different body. Send the same body "
            "or another key.",
            param=_HEADER,
            code="idempotency_key_reused",
        )
    return made
