"""Pydantic's validation errors as one clear sentence: the dotted field, the value, what is accepted."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.core.errors import BadRequest

#: What pydantic found, with its words for it.
Problem = Mapping[str, Any]
_SHOWN = 80
#: Fields at fault of which a message speaks, and one more, which says that there are others.
_NAMED = 6
_NOTHING = object()
Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], value: object, prefix: str = "") -> Model:
    """``value`` as ``model``; raises BadRequest that names the field below ``prefix``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise bad_request(error.errors(include_url=False), value, model, prefix) from error


def bad_request(
    problems: Sequence[Problem], value: object, model: object = None, prefix: str = ""
) -> BadRequest:
    """The error for what pydantic found wrong with ``value``: the first field at fault, in full.

    ``model`` is the type that was validated against; it lets an unknown key be answered with the known ones.
    """
    fields: dict[str, list[Problem]] = {}
    for problem in problems:
        fields.setdefault(_field(problem["loc"], value, problem["type"]), []).append(problem)
        if len(fields) > _NAMED:
            break
    path, first = next(iter(fields.items()))
    problem = first[0]
    param = ".".join(part for part in (prefix, path) if part) or None
    shown = f"'{param}'" if param else "the body"
    if problem["type"] == "missing":
        code, message = "missing_required_parameter", f"Missing required parameter: {shown}."
    elif problem["type"] == "extra_forbidden":
        code, message = "unknown_parameter", f"Unknown parameter: {shown}."
        message += _known_keys(model, problem["loc"], value)
    elif problem["type"] == "value_error":
        code, message = "invalid_value", f"Invalid {shown.removeprefix('the ')}: {problem['ctx']['error']}."
    else:
        code = "invalid_type" if problem["type"].endswith("_type") else "invalid_value"
        accepted = " or ".join(dict.fromkeys(_accepted(one) for one in first))
        message = f"Invalid value for {shown}: {abbreviated(problem['input'])}. {accepted}."
    others = [name for name in fields if name != path]
    if others:
        message += f" Also wrong: {', '.join(others[:5])}{', …' if len(others) > 5 else ''}."
    return BadRequest(message, param=param, code=code)


def abbreviated(value: object) -> str:
    """A value as it may stand in a message: JSON, cut to a length."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def one_of(names: Sequence[str], wanted: str = "", limit: int = 20) -> str:
    """``a, b, c`` for a message, those that resemble ``wanted`` first when there are many."""
    names = list(names)
    if len(names) > limit:
        close = difflib.get_close_matches(wanted, names, n=5, cutoff=0.5)
        return ", ".join(close + [name for name in names if name not in close][: limit - len(close)]) + ", …"
    return ", ".join(names) or "none"


def _accepted(problem: Problem) -> str:
    if problem["type"] == "union_tag_invalid":
        return f"Its '{problem['ctx']['discriminator'].strip(chr(39))}' should be one of: " + str(
            problem["ctx"]["expected_tags"]
        )
    if problem["type"] == "union_tag_not_found":
        return f"It needs the key '{problem['ctx']['discriminator'].strip(chr(39))}' that says what it is"
    return str(problem["msg"])


def _field(location: Sequence[str | int], value: object, kind: str) -> str:
    """The dotted path in the request. Pydantic's location also has steps that are not keys: the member of a
    union that was tried, "[key]", "list[…]"; they are told apart by following the value."""
    path: list[str] = []
    for number, step in enumerate(location):
        inner = _child(value, step)
        if inner is not _NOTHING:
            path.append(str(step))
            value = inner
        elif kind == "missing" and number == len(location) - 1:
            path.append(str(step))
    return ".".join(path)


def _child(value: object, step: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(step, _NOTHING)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOTHING


def _known_keys(model: object, location: Sequence[str | int], value: object) -> str:
    """The keys that are accepted where ``location`` has an unknown one."""
    candidates = [model]
    for step in location[:-1]:
        candidates = [found for one in candidates for found in _below(one, step, value)] or candidates
    known = list(dict.fromkeys(key for one in candidates for key in _keys(one)))
    if not known:
        return ""
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    return f"{meant} Accepted here: {', '.join(known)}."


def _keys(annotation: object) -> list[str]:
    if _is_model(annotation):
        return [field.alias or name for name, field in annotation.model_fields.items()]
    return []


def _below(annotation: object, step: str | int, value: object) -> list[object]:
    """The types that ``step`` of a location leads to from ``annotation``."""
    if _is_model(annotation):
        fields: dict[str, FieldInfo] = annotation.model_fields
        for name, field in fields.items():
            if step in (name, field.alias):
                return _members(field.annotation)
        # A tag of a discriminated union leads to the member that has this tag.
        kind = fields.get("type")
        return [annotation] if kind is not None and step in get_args(kind.annotation) else []
    return []


def _members(annotation: object) -> list[object]:
    """A union's members, an annotation's inner type, or the type itself."""
    if _is_model(annotation):
        return [annotation]
    return [member for inner in get_args(annotation) for member in _members(inner)]


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
