"""What generators of clients stumble over is not in the API's description.

Without a network; ``openapi-python-client generate`` makes a client of it without an error or a warning.
"""

import re
from collections.abc import Iterator
from typing import Any

from app.core.description import operations
from app.main import create_app

DOCUMENT: dict[str, Any] = create_app().openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def parts(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the document, with where it is; values that it shows are none of it."""
    if isinstance(part, dict):
        yield where, part
        for key, one in part.items():
            if key not in ("example", "examples", "default"):
                yield from parts(one, f"{where}.{key}")
    elif isinstance(part, list):
        for number, one in enumerate(part):
            yield from parts(one, f"{where}[{number}]")


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for where, part in parts(DOCUMENT):
        if where.rpartition(".")[2] == "properties":
            yield from ((f"{where}.{name}", schema) for name, schema in part.items())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def test_names_of_schemas_are_those_of_classes_and_no_two_are_the_same_in_any_case() -> None:
    assert [name for name in SCHEMAS if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)] == []
    assert len({name.lower() for name in SCHEMAS}) == len(SCHEMAS) > 150


def test_operation_ids_are_short_and_unique() -> None:
    ids = [operation["operationId"] for _, operation in operations(DOCUMENT)]
    assert sorted(set(ids)) == sorted(ids)
    assert [one for one in ids if not re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", one)] == []


def test_the_server_is_named() -> None:
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/"]


def test_no_property_is_null_and_nothing_else() -> None:
    alone = [
        where
        for where, schema in properties()
        # One that only restricts a property that is declared elsewhere is not a type.
        if schema.get("type") == "null" or schema.get("const", "") is None or schema.get("enum") == [None]
    ]
    assert alone == []
    assert len(list(properties())) > 900


def test_a_discriminator_is_required_in_each_schema_that_it_chooses() -> None:
    seen = 0
    for where, part in parts(DOCUMENT):
        if "discriminator" not in part:
            continue
        tag, mapping = part["discriminator"]["propertyName"], part["discriminator"]["mapping"]
        assert {one["$ref"] for one in part["oneOf"]} == set(mapping.values()), where
        for value, reference in mapping.items():
            member = resolved({"$ref": reference})
            assert tag in member["required"], f"{where}: {reference}"
            assert member["properties"][tag]["const"] == value
            seen += 1
    assert seen > 50


def test_no_property_that_is_an_object_of_its_own_schema_has_a_default() -> None:
    """Generated classes have no instance to begin with."""
    with_default = [
        where
        for where, schema in properties()
        if isinstance(schema.get("default"), dict) and schema["default"] and "$ref" in str(schema)
    ]
    assert with_default == []
