"""Values of tasks as JSON text and back, of the types that they were: nothing is evaluated on either side.

JSON has no tuples, and its keys are strings; scorers tell them apart. What JSON cannot say is an object of
one key, which begins with ``$``.
"""

import json
from typing import Any

_SHAPES = {"tuple": tuple, "set": set, "frozenset": frozenset}


def dumps(value: object) -> str:
    """``value`` as text. Raises TypeError for a type that has no place here."""
    return json.dumps(_plain(value))


def loads(text: str | bytes) -> Any:
    """The value that ``text`` stands for. Raises ValueError when there is none."""
    return _restored(json.loads(text))


def _plain(value: Any) -> object:
    kind = type(value)
    if kind in (str, int, float, bool) or value is None:
        return value
    if kind is list:
        return [_plain(one) for one in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _plain(one) for key, one in value.items()}
        return {"$dict": [[_plain(key), _plain(one)] for key, one in value.items()]}
    if kind.__name__ in _SHAPES and kind is _SHAPES[kind.__name__]:
        return {f"${kind.__name__}": [_plain(one) for one in value]}
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        return _plain(value.tolist())
    raise TypeError(f"a value of the type {kind.__module__}.{kind.__name__} cannot be passed to the sandbox")


def _restored(value: object) -> Any:
    if isinstance(value, list):
        return [_restored(one) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, content),) = value.items()
        if name == "$dict":
            return {_restored(key): _restored(one) for key, one in content}
        if name[:1] == "$" and name[1:] in _SHAPES:
            return _SHAPES[name[1:]](_restored(one) for one in content)
    return {key: _restored(one) for key, one in value.items()}
