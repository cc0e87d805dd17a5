"""What the API's description (``/openapi.json``) says of answers, beyond what FastAPI sees by itself.

Answers are made by hand, for speed; the models named here describe them and are not run. That they are right
is tested: by schemathesis (``make fuzz``) and against the SDK's types.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app.core.auth import PUBLIC

T = TypeVar("T")
Kind = Annotated[T, Field(description="What kind of object this is, for programs that get several")]
CreatedAt = Annotated[int, Field(description="When it was made, Unix time in seconds")]
Deleted = Annotated[Literal[True], Field(description="Always true: it is gone")]

#: A server-sent event; the last one's data is ``[DONE]``.
EVENT_STREAM: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "What to give as Last-Event-ID to go on after it"},
        "event": {"type": "string", "description": "What kind of event it is, where there are several"},
        "data": {"type": "string", "description": "JSON in a line, or [DONE] at the end"},
    },
}


class ListOf(BaseModel, Generic[T]):
    """One page of a list (``app.core.paging.page``) of one kind."""

    object: Kind[Literal["list"]]
    data: list[T] = Field(description="The elements of this page")
    has_more: bool = Field(description="true: further elements follow; ask with after = last_id")
    first_id: str | None = Field(description="Id of the first element; null on an empty page")
    last_id: str | None = Field(
        description="Id of the last element, to ask for the next page with; null on an empty page"
    )


def answers(model: object, *, status: int = 200, **other_types: str) -> dict[str, Any]:
    """Arguments of a route that answers with ``model``; ``event_stream="…"`` and the like add types."""
    return {"response_model": None, "responses": {status: {"model": model, "content": _content(other_types)}}}


def answers_text(description: str, *media_types: str) -> dict[str, Any]:
    """Arguments of a route that answers with text of one of these types, and never with JSON."""
    content = {
        name: {"schema": EVENT_STREAM if name == "text/event-stream" else {"type": "string"}}
        for name in media_types
    }
    response = {"description": description, "content": content}
    # This class has no media type of its own that would be described beside these.
    return {"response_class": StreamingResponse, "response_model": None, "responses": {200: response}}


def _content(types: dict[str, str]) -> dict[str, Any]:
    media_types = {"event_stream": "text/event-stream", "text_csv": "text/csv", "text_html": "text/html"}
    return {
        media_types[name]: {
            "schema": (EVENT_STREAM if name == "event_stream" else {"type": "string"}) | {"description": text}
        }
        for name, text in types.items()
    }


def describe(app: FastAPI, has_keys: Callable[[], bool]) -> None:
    """Say which routes want a key: the guard is not a dependency that FastAPI could see."""
    plain = app.openapi

    def wants_key() -> bool:
        try:
            return has_keys()
        except SQLAlchemyError:
            return True

    def openapi() -> dict[str, Any]:
        made_now = app.openapi_schema is None  # afterwards it is kept
        document = plain()
        if made_now:
            _require_tags(document)
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        # Until there is a first key, none is wanted.
        document["security"] = [{"key": []}] if wants_key() else [{}, {"key": []}]
        for path in PUBLIC & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = openapi


def _require_tags(part: object) -> None:
    """A tag that chooses one of several schemas has to be given; elsewhere it has a default."""
    if isinstance(part, list):
        for one in part:
            _require_tags(one)
    elif isinstance(part, dict):
        if "discriminator" in part:
            tag = part["discriminator"]["propertyName"]
            part["oneOf"] = [{**one, "required": [tag]} for one in part["oneOf"]]
        for one in part.values():
            _require_tags(one)
