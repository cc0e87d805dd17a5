"""OpenAI's lists: ``{object: "list", data, has_more, first_id, last_id}`` with ``after`` and ``limit``.

Pages are found by key, not by offset: the five-hundredth costs what the first does.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Query, Response
from pydantic_core import to_json

from app.core.errors import BadRequest

After = Annotated[str | None, Query(description="Id of the last element of the previous page")]
Limit = Annotated[int, Query(ge=1, le=100, description="Elements per page")]


def page(rows: Sequence[Mapping[str, object]], limit: int) -> Response:
    """The page made of ``rows``: one more than ``limit`` was asked for, to see whether more follow.

    It is encoded here, at once: FastAPI would look at each value of a thousand elements.
    """
    data = rows[:limit]
    listed = {
        "object": "list",
        "data": data,
        "has_more": len(rows) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
    return Response(to_json(listed, inf_nan_mode="null"), media_type="application/json")


def unknown_cursor(after: str) -> BadRequest:
    """The error for an ``after`` that names nothing in this list."""
    return BadRequest(
        f"Invalid value for 'after': {after!r} is not in this list. Give the id of one of its elements, "
        "usually the last_id of the previous page.",
        param="after",
    )
