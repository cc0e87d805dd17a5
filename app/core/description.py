"""What the API's description (``/openapi.json``) says of answers, beyond what FastAPI sees by itself.

Answers are made by hand, for speed; the models named here describe them and are not run. That they are right
is tested: by schemathesis (``make fuzz``) and against the SDK's types; that nothing goes without a word or an
example, too (``tests/app/test_description.py``).
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app.core.auth import PUBLIC
from app.core.strict_json import JsonObject

T = TypeVar("T")
_LIST_OF = "ListOf"
Kind = Annotated[T, Field(description="Kind of object, for programs that handle several")]
CreatedAt = Annotated[int, Field(description="When it was created, Unix time in seconds")]
Deleted = Annotated[Literal[True], Field(description="Always true: it has been deleted")]

#: A part of the description, as FastAPI makes it.
Part = JsonObject
#: A server-sent event; the last one's data is ``[DONE]``.
EVENT_STREAM: Part = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "Send it as Last-Event-ID to continue after this event"},
        "event": {"type": "string", "description": "Kind of event, where there are several"},
        "data": {"type": "string", "description": "One line of JSON, or [DONE] at the end"},
    },
}


@lru_cache
def _called(name: str, base: Any) -> Any:
    return type(name, (base,), {"__doc__": base.__doc__})


class ListOf(BaseModel, Generic[T]):
    """One page of a list (``app.core.paging.page``) of one kind."""

    object: Kind[Literal["list"]]
    data: list[T] = Field(description="The elements of this page")
    has_more: bool = Field(description="Whether more elements follow; get them with after = last_id")
    first_id: str | None = Field(description="Id of the first element; null on an empty page")
    last_id: str | None = Field(
        description="Id of the last element, used to request the next page; null on an empty page"
    )

    def __class_getitem__(cls, typevar_values: Any) -> Any:
        """Of a kind, a class with a name that is one in any language: pydantic's own has brackets."""
        return _called(f"{_LIST_OF}{typevar_values.__name__}", super().__class_getitem__(typevar_values))


class Answers(TypedDict):
    """Arguments of a route that say what it answers with."""

    response_model: None
    responses: dict[int | str, Part]
    response_class: NotRequired[type[StreamingResponse]]


def answers(model: object, *, status: int = 200, **other_types: str) -> Answers:
    """Arguments of a route that answers with ``model``; ``event_stream="…"`` and the like add types."""
    return {"response_model": None, "responses": {status: {"model": model, "content": _content(other_types)}}}


def answers_text(description: str, *media_types: str) -> Answers:
    """Arguments of a route that answers with text of one of these types, and never with JSON."""
    content = {
        name: {"schema": EVENT_STREAM if name == "text/event-stream" else {"type": "string"}}
        for name in media_types
    }
    response = {"description": description, "content": content}
    # This class has no media type of its own that would be described beside these.
    return {"response_class": StreamingResponse, "response_model": None, "responses": {200: response}}


def _content(types: dict[str, str]) -> Part:
    media_types = {"event_stream": "text/event-stream", "text_csv": "text/csv", "text_html": "text/html"}
    return {
        media_types[name]: {
            "schema": (EVENT_STREAM if name == "event_stream" else {"type": "string"}) | {"description": text}
        }
        for name, text in types.items()
    }


def describe(app: FastAPI, is_keyless: Callable[[], bool]) -> None:
    """Complete the description: which routes want a key, summaries, examples.

    The guard is not a dependency that FastAPI could see.
    """
    plain = app.openapi

    def wants_key() -> bool:
        try:
            return not is_keyless()
        except SQLAlchemyError:
            return True

    def openapi() -> Part:
        made_now = app.openapi_schema is None  # afterwards it is kept
        document = plain()
        if made_now:
            _require_tags(document, document["components"]["schemas"])
            _summarise(document)
            _exemplify(document)
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        # Until there is a first key, none is wanted.
        document["security"] = [{"key": []}] if wants_key() else [{}, {"key": []}]
        for path in PUBLIC & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = openapi


def operations(document: Part) -> Iterator[tuple[str, Part]]:
    """Each operation of a description, with its method and path as ``GET /v1/files``."""
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield f"{method.upper()} {path}", operation


def _summarise(document: Part) -> None:
    """The first paragraph of what an endpoint says of itself is its summary, the rest its description."""
    for _, operation in operations(document):
        first, _, rest = operation.pop("description", "").partition("\n\n")
        operation["summary"] = " ".join(first.split())
        if rest:
            operation["description"] = rest


@lru_cache
def examples() -> Part:
    """Examples that a service has answered with, from each resource's ``examples.json``.

    By the name of the schema; of what is not JSON by operation and type, as ``GET /v1/files text/csv``.
    """
    found: Part = {}
    for file in sorted(Path(__file__).parents[1].glob("*/examples.json")):
        found |= json.loads(file.read_text(encoding="utf-8"))
    return found


def _exemplify(document: Part) -> None:
    """Give each schema of a body or an answer its example, and what is not JSON its text."""
    known = examples()
    for name, schema in document["components"]["schemas"].items():
        element = known.get(name.removeprefix(_LIST_OF))
        if name in known:
            schema["examples"] = [known[name]]
        elif name.startswith(_LIST_OF) and element is not None:
            ends = {"first_id": element["id"], "last_id": element["id"]}
            schema["examples"] = [{"object": "list", "data": [element], "has_more": False, **ends}]
    for words, operation in operations(document):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind, content in part.get("content", {}).items():
                if (example := known.get(f"{words} {kind}")) is not None:
                    content["example"] = example


def _require_tags(part: object, schemas: Part) -> None:
    """A tag that chooses one of several schemas is required in each: elsewhere it would have a default."""
    if isinstance(part, list):
        for one in part:
            _require_tags(one, schemas)
    elif isinstance(part, dict):
        if "discriminator" in part:
            tag = part["discriminator"]["propertyName"]
            for one in part["oneOf"]:
                member = schemas[one["$ref"].rpartition("/")[2]]
                member["properties"][tag].pop("default", None)
                member["required"] = list(dict.fromkeys([*member.get("required", ()), tag]))
        for one in part.values():
            _require_tags(one, schemas)
