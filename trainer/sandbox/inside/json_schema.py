"""Does a text hold JSON of a given form? Schemas have patterns and references, which a stranger wrote."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from .supervisor import Handle, Prepare, Refused

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

#: Values of every kind, on which a schema that never comes to an end shows itself.
_TRIED: tuple[Any, ...] = (None, True, 0, "", [], [[]], {}, {"": {}})
_SHOWN = 300


class Setup(TypedDict):
    """What a text is held against."""

    schema: object


def load(setup: Setup) -> Prepare:
    """Import the library; the schema is looked at by the children alone."""
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        raise Refused("it needs the package jsonschema: install policysplit[graders]") from None
    return lambda: _prepared(setup["schema"])


def _prepared(schema: object) -> Handle:
    validator = _validator(schema)
    for value in _TRIED:
        try:
            next(validator.iter_errors(value), None)
        except RecursionError:
            raise Refused("the schema refers to itself endlessly") from None

    def handle(question: bytes) -> dict[str, object]:
        return {"problem": _problem(validator, json.loads(question)["text"])}

    return handle


def _validator(schema: Any) -> "Validator":
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise Refused(f"at {_place(error.absolute_path)}: {error.message[:_SHOWN]}") from None
    registry: Any = Registry()
    resolver = registry.resolver_with_root(DRAFT202012.create_resource(schema))
    parts = list(_parts(schema))
    for reference in sorted({name for one in parts if isinstance(name := one.get("$ref"), str)}):
        if any("$id" in one for one in parts):  # which references are relative to
            break
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise Refused(f"$ref {reference[:_SHOWN]!r} does not exist in the schema") from None
    return kind(schema, registry=registry)


def _parts(value: object) -> Iterator[dict[str, object]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _problem(validator: "Validator", text: str) -> str | None:
    """Why the text is not of the form; None where it is."""
    from jsonschema.exceptions import best_match

    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {str(error)[:_SHOWN]}"
    error = best_match(validator.iter_errors(value))
    return None if error is None else f"at {_place(error.absolute_path)}: {error.message[:_SHOWN]}"


def _place(path: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[:_SHOWN]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
