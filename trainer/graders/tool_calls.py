"""Calls of tools in a response, in the form that Hermes, Qwen and the models made after them write.

``<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>``, any number of them. Other models write
other forms, which are not read.
"""

import json
from typing import Any, NoReturn

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def tool_calls(text: str) -> list[dict[str, object]]:
    """The calls in OpenAI's form, ``arguments`` as JSON text. What stands there and is none is left out."""
    found: list[dict[str, object]] = []
    position = text.find(OPEN)
    while position >= 0:
        start = position + len(OPEN)
        end = text.find(CLOSE, start)
        if end < 0:
            break
        if (function := called_function(text[start:end])) is not None:
            found.append({"id": f"call_{len(found)}", "type": "function", "function": function})
        position = text.find(OPEN, end)
    return found


def called_function(text: str) -> dict[str, object] | None:
    """The function that a call's JSON names, with ``arguments`` as JSON text; None where it is none."""
    try:
        call: Any = json.loads(text, parse_constant=_no_constant)
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return None
        arguments = call.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        return {"name": call["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
