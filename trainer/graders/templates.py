"""Templates of graders: ``{{item.x}}``, ``{{sample.output_text}}``, ``{{sample.output_json.x[0].y}}``.

A template is taken apart once; what a variable's value says is put in as it is and never read again.
Elements of lists are ``[0]`` or ``.0`` and, from the end, ``[-1]``. What is null in an item counts as absent
there; a null that the response says in its JSON is the text ``null``.
"""

import json
import re
from collections.abc import Callable
from typing import NoReturn

from trainer.graders.grade import GraderError, Sample

Path = tuple[str | int, ...]
"""Keys of objects, and indices of lists; a key that is a number is an index, too, where there is a list."""

_STEP = r"\.\w+|\[\s*-?\d{1,9}\s*\]"
VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:" + _STEP + r")*)\s*\}\}")
_STEPS = re.compile(r"\.(\w+)|\[\s*(-?\d{1,9})\s*\]")
ACCEPTED = (
    "item.FIELD, sample.output_text, sample.output_json.FIELD, sample.output_tools[0].function.name, "
    "sample.reasoning or sample.full_text, with [0] or .0 for an element of a list"
)
_TEXTS: dict[str, Callable[[Sample], str]] = {
    "output_text": lambda sample: sample.text,
    "reasoning": lambda sample: sample.reasoning or "",
    "full_text": lambda sample: sample.full_text,
}

Render = Callable[[Sample], str]


def variables(template: str) -> set[str]:
    """Names that a template reads, such as ``item.answer``."""
    return set(VARIABLE.findall(template))


def parse_name(name: str) -> tuple[str, Path]:
    """``item.a[0].b`` as its root and the way from there."""
    root = re.match(r"\w+", name)
    assert root is not None
    steps = _STEPS.findall(name, root.end())
    return root.group(), tuple(key if key else int(index) for key, index in steps)


def template_problem(template: str) -> str | None:
    """What is wrong with a template, as a sentence; None when nothing is."""
    for name in VARIABLE.findall(template):
        root, path = parse_name(name)
        of_sample = root == "sample" and path and (path[0] in _OF_VALUES or path in _OF_TEXTS)
        if root != "item" and not of_sample:
            return f"the template variable '{name[:80]}' is unknown; it should be {ACCEPTED}"
    rest = VARIABLE.sub("", template)
    if "{{" not in rest:
        return None
    found = rest[rest.index("{{") :]
    end = found.find("}}")
    written = found[: end + 2 if 0 < end < 80 else 80]
    if "|" in written:
        return (
            f"'{written}' uses a filter, but filters are not supported: write {{{{ {ACCEPTED} }}}}. Texts "
            "are inserted as they are, lists and objects as JSON"
        )
    if re.search(r"\.{2}|\.\s*\}|\.\s*\[", written):
        return f"the template variable '{written}' has an empty part"
    return f"'{written}' is not a valid variable; write {{{{ {ACCEPTED} }}}}"


_OF_TEXTS = {(name,) for name in _TEXTS}
_OF_VALUES = ("output_json", "output_tools")


def compile_template(template: str) -> Render:
    """A function of a sample that fills the template in.

    It raises GraderError: ``invalid_variable_error`` for a variable without a value, ``sample_parse_error``
    where ``sample.output_json`` is asked for and the response is not JSON.
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


def parse_output(text: str, name: str = "sample.output_json") -> object:
    """A response that is JSON as its value. Raises GraderError when it is not."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise GraderError(
            f"the template variable {name} has no value: the response is not JSON", "sample_parse_error"
        ) from None


def has_value(item: dict[str, object], name: str) -> bool:
    """Whether the variable ``name``, which begins with ``item``, has a value in this item."""
    try:
        return _walk(item, parse_name(name)[1], name) is not None
    except GraderError:
        return False


def field_of(item: dict[str, object], name: str) -> object:
    """The value of the variable ``name``, which begins with ``item``. Raises GraderError for none."""
    return _of_item(item, parse_name(name)[1], name)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _constant(text: str) -> Render:
    return lambda _sample: text


def _variable(name: str) -> Render:
    root, path = parse_name(name)
    if root == "sample" and path in _OF_TEXTS:
        return _TEXTS[str(path[0])]
    if root == "sample" and path and path[0] == "output_json":
        return lambda sample: _as_text(_walk(parse_output(sample.text, name), path[1:], name))
    if root == "sample" and path and path[0] == "output_tools":
        return lambda sample: _as_text(_walk(sample.output_tools, path[1:], name))
    if root == "item" and len(path) == 1 and isinstance(path[0], str):
        key = str(path[0])

        def field(sample: Sample) -> str:
            value = sample.item.get(key)
            return value if type(value) is str else _as_text(_of_item(sample.item, path, name))

        return field
    if root == "item":
        return lambda sample: _as_text(_of_item(sample.item, path, name))
    raise ValueError(f"the template variable {name} is unknown; it should be {ACCEPTED}")


def _of_item(item: dict[str, object], path: Path, name: str) -> object:
    value = _walk(item, path, name)
    if value is None:
        raise GraderError(f"the template variable {name} has no value: it is null", "invalid_variable_error")
    return value


def _walk(value: object, path: Path, name: str) -> object:
    for step in path:
        index = int(step) if isinstance(step, int) or (step.isdecimal() and len(step) < 10) else None
        if isinstance(value, list) and index is not None and -len(value) <= index < len(value):
            value = value[index]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            raise GraderError(f"the template variable {name} has no value", "invalid_variable_error")
    return value


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
