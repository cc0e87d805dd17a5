"""The API's description says something of everything, and its examples are what a service takes and gives."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.core.description import examples, operations
from app.main import create_app
from tests.fixtures.described import check_described

APP = create_app()
DOCUMENT: dict[str, Any] = APP.openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = dict(operations(DOCUMENT))
ROUTES = {
    f"{method} {route.path_format}": route
    for route in APP.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in route.methods
}
#: Operations with a body that is read as a model.
BODIES = [words for words, route in ROUTES.items() if route.body_field is not None]


def properties(part: Any, where: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every property that the document declares, below ``where``, with its schema and its name."""
    if isinstance(part, dict):
        for name, schema in part.get("properties", {}).items():
            # One that only restricts a property that is declared elsewhere says nothing of it.
            if schema.keys() - {"not"}:
                yield where, name, schema
        for key, one in part.items():
            if key not in ("examples", "example", "default"):
                yield from properties(one, f"{where}.{key}")
    elif isinstance(part, list):
        for one in part:
            yield from properties(one, where)


def says_something(name: str, text: str) -> bool:
    """Whether a description has words that the name has not."""
    words = set(re.findall(r"[a-z]{2,}", text.lower())) - {"the", "of", "an", "its", "this"}
    return len(words - set(name.lower().replace("-", "_").split("_"))) >= 2


def test_every_property_has_a_description_beyond_its_name() -> None:
    found = list(properties(DOCUMENT, ""))
    assert len(found) > 900
    silent = [
        f"{where}: {name}"
        for where, name, one in found
        if not says_something(name, one.get("description", ""))
    ]
    assert silent == []


def test_every_parameter_has_a_description_beyond_its_name() -> None:
    found = [(words, one) for words, by in OPERATIONS.items() for one in by.get("parameters", [])]
    assert len(found) > 80
    assert [
        f"{words}: {one['name']}"
        for words, one in found
        if not says_something(one["name"], one.get("description", ""))
    ] == []


@pytest.mark.parametrize("words", OPERATIONS)
def test_every_summary_is_a_sentence(words: str) -> None:
    summary = OPERATIONS[words]["summary"]
    assert re.fullmatch(r"[A-Z][^.]+ [^.]+\.", summary) and len(summary) <= 110, summary


def test_no_two_summaries_are_the_same() -> None:
    summaries = [operation["summary"] for operation in OPERATIONS.values()]
    assert sorted(set(summaries)) == sorted(summaries)


def contents(words: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body and each answer of an operation, with its media type."""
    operation = OPERATIONS[words]
    answers = [answer for status, answer in operation["responses"].items() if status[0] == "2"]
    assert answers
    for part in (operation.get("requestBody", {}), *answers):
        yield from part.get("content", {}).items()


@pytest.mark.parametrize("words", OPERATIONS)
def test_every_body_and_answer_has_an_example_that_its_schema_takes(words: str) -> None:
    shown = 0
    for kind, content in contents(words):
        schema = content.get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        given = [content["example"]] if "example" in content else SCHEMAS.get(name, {}).get("examples", [])
        assert given, f"{words} has no example of {name or kind}"
        for one in given:
            # What is streamed is described event by event.
            for value in events(one) if kind == "text/event-stream" else [one]:
                validator(schema).validate(value)
                shown += 1
    assert shown


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def events(stream: str) -> list[dict[str, str]]:
    """Server-sent events as objects of their fields."""
    found = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in stream.strip().split("\n\n")
    ]
    assert found
    return found


@pytest.mark.parametrize("words", BODIES)
def test_every_example_of_a_body_is_one_that_is_taken(words: str) -> None:
    """By the model itself, whose rules a schema cannot all tell."""
    field = ROUTES[words].body_field
    assert field is not None
    model: Any = field.field_info.annotation
    model.model_validate(examples()[model.__name__])


def answer_models() -> dict[str, type[BaseModel]]:
    """By its name in the document, each model of an answer."""
    found: dict[str, type[BaseModel]] = {}
    for words, route in ROUTES.items():
        models = [
            one["model"]
            for status, one in route.responses.items()
            if str(status)[0] == "2" and "model" in one
        ]
        for model in [*models, *([route.response_model] if route.response_model else [])]:
            names = [
                c["schema"]["$ref"].rpartition("/")[2] for k, c in contents(words) if k == "application/json"
            ]
            found |= {name: model for name in names if name not in examples() or model.__name__ == name}
    return found


def test_every_example_of_an_answer_is_one_to_the_field() -> None:
    models = answer_models()
    assert len(models) > 35
    for name, model in models.items():
        (example,) = SCHEMAS[name]["examples"]
        check_described(model, json.dumps(example))


def test_an_example_belongs_to_something() -> None:
    known = {f"{words} {kind}" for words in OPERATIONS for kind, _ in contents(words)} | SCHEMAS.keys()
    elements = {name.removeprefix("ListOf") for name in SCHEMAS if name.startswith("ListOf")}
    assert examples().keys() <= known | elements


def test_the_examples_agree_with_each_other() -> None:
    """They are one story: the job that is created is the one that is answered, ran, and is asked."""
    shown = examples()
    assert shown["CreateJob"]["model"] == shown["JobObject"]["model"]
    assert (
        shown["CreateJob"]["training_file"]
        == shown["FileObject"]["id"]
        == shown["JobObject"]["training_file"]
    )
    job = shown["JobObject"]["id"]
    for name in ("CheckpointObject", "RolloutObject", "RolloutDetails"):
        assert shown[name]["fine_tuning_job_id"] == job
    assert shown["ReplayObject"]["job_id"] == job
    assert shown["ChatCompletionRequest"]["model"].startswith(shown["JobObject"]["fine_tuned_model"])
