"""Templates of graders: ``{{item.x}}``, ``{{sample.output_text}}``, ``{{sample.output_json.x}}``.

A template is taken apart once; what a variable's value says is put in as it is and never read again.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from trainer.graders.grade import GraderError, Sample

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")
ACCEPTED = "item.FIELD, sample.output_text or sample.output_json.FIELD"
_SAMPLE = ("sample.output_text", "sample.output_json")

Render = Callable[[Sample], str]


def variables(template: str) -> set[str]:
    """Dotted names that a template reads, such as ``item.answer``."""
    return set(VARIABLE.findall(template))


def template_problem(template: str) -> str | None:
    """What is wrong with a template, as a sentence; None when nothing is."""
    for name in VARIABLE.findall(template):
        known = name in _SAMPLE or name.startswith(("sample.output_json.", "item."))
        if not known and name != "item":
            return f"the template variable '{name[:80]}' is unknown; it should be {ACCEPTED}"
        if "" in name.split("."):
            return f"the template variable '{name[:80]}' has an empty part"
    rest = VARIABLE.sub("", template)
    if "{{" in rest:
        found = rest[rest.index("{{") :][:40]
        return f"'{found}' opens a variable that is none; write {{{{ {ACCEPTED} }}}}"
    return None


def compile_template(template: str) -> Render:
    """A function of a sample that fills the template in.

    It raises GraderError: ``invalid_variable_error`` for a variable without a value, ``sample_parse_error``
    where ``sample.output_json`` is asked for and the response is no JSON.
    """
    pieces: list[Render] = []
    position = 0
    for match in VARIABLE.finditer(template):
        if text := template[position : match.start()]:
            pieces.append(_constant(text))
        pieces.append(_variable(match.group(1)))
        position = match.end()
    if (text := template[position:]) or not pieces:
        pieces.append(_constant(text))
    if len(pieces) == 1:
        return pieces[0]
    return lambda sample: "".join([piece(sample) for piece in pieces])


def parse_output(text: str, name: str = "sample.output_json") -> Any:
    """A response that is JSON as its value. Raises GraderError when it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise GraderError(
            f"the template variable {name} has no value: the response is no JSON", "sample_parse_error"
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _constant(text: str) -> Render:
    return lambda _sample: text


def _variable(name: str) -> Render:
    root, *path = name.split(".")
    if (root, *path) == ("sample", "output_text"):
        return lambda sample: sample.text
    if root == "sample" and path and path[0] == "output_json":
        return lambda sample: _as_text(_walk(parse_output(sample.text, name), path[1:], name))
    if root == "item":
        if len(path) == 1:
            return lambda sample: _field(sample.item, path[0], name)
        return lambda sample: _as_text(_walk(sample.item, path, name))
    raise ValueError(f"the template variable {name} is unknown; it should be {ACCEPTED}")


def _field(item: dict[str, Any], key: str, name: str) -> str:
    value = item.get(key, _MISSING)
    if value is _MISSING:
        raise _no_value(name)
    return value if isinstance(value, str) else _as_text(value)


def _walk(value: Any, path: list[str], name: str) -> Any:
    for key in path:
        if isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise _no_value(name)
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _no_value(name: str) -> GraderError:
    return GraderError(f"the template variable {name} has no value", "invalid_variable_error")


_MISSING = object()
