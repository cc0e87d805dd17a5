"""JSON as the standard has it, and as every part after us can store it.

Python's parser also takes NaN, Infinity, numbers too large for a float, lone surrogates, repeated keys and
any depth; each of these breaks something later (a database, a template, another language's parser), so each
is refused here, where the sender can still be told.
"""

import json
import math
from typing import Any, NoReturn

#: An object of a form that its readers know and check.
JsonObject = dict[str, Any]

MAX_DEPTH = 64
#: Of all objects in a document together, and of one.
MAX_KEYS = 50_000
MAX_KEYS_OF_ONE = 5_000


class BadJson(ValueError):
    """What is wrong, as a phrase to stand after a colon."""


def parse(data: bytes) -> Any:
    """The value of a JSON document. Raises BadJson."""
    if not data:
        raise BadJson("there is nothing in it")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"not valid UTF-8: byte {data[error.start]:#04x} at position {error.start}") from None
    if text.startswith("\ufeff"):
        raise BadJson("it begins with a byte-order mark; save it as plain UTF-8")
    keys = 0

    def counted(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal keys
        keys += len(pairs)
        if len(pairs) > MAX_KEYS_OF_ONE:
            raise BadJson(f"an object has {len(pairs)} keys; it may have {MAX_KEYS_OF_ONE}")
        if keys > MAX_KEYS:
            raise BadJson(f"its objects have more than {MAX_KEYS} keys in total")
        return _distinct_keys(pairs)

    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=counted)
    except json.JSONDecodeError as error:
        raise BadJson(f"malformed JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise BadJson(f"nested more than {MAX_DEPTH} levels deep") from None
    except BadJson:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise BadJson(str(error).partition(";")[0]) from None
    if text.count("[") + text.count("{") > MAX_DEPTH or "\\u" in text:
        _check(value)
    return value


def _no_constant(name: str) -> NoReturn:
    raise BadJson(f"it has {name}, which is not valid JSON; use null or leave the key out")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJson(f"the number {text[:40]} is too large")
    return number


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise BadJson(f"the key {twice[:80]!r} appears twice")
    return found


def _check(value: object) -> None:
    """Depth, lone surrogates and NUL; only escapes (``\\u…``) can bring the latter two in."""
    pending: list[tuple[object, int]] = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise BadJson(f"nested more than {MAX_DEPTH} levels deep")
            if isinstance(value, dict):
                for key in value:
                    _check_text(key)
            pending.extend(
                (child, depth + 1) for child in (value.values() if isinstance(value, dict) else value)
            )


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise BadJson("it contains the character U+0000")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise BadJson(f"it has an unpaired surrogate, \\u{code:04x}, which is not a character") from None
