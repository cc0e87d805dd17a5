"""Training files: JSONL, checked line by line, with an index of which rows have which field."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import BadRequest
from app.strict_json import BadJson, parse
from app.validation import abbreviated, one_of

ROLES = ("system", "developer", "user", "assistant")
#: The index holds no more than this; what is not in it is looked up in the file.
MAX_FIELDS = 1000
# What a grader's template can name (trainer.graders.spec.TEMPLATE_VARIABLE).
_KEY = re.compile(r"\w{1,128}")


@dataclass
class Rows:
    """What is known of a valid training file.

    ``fields`` maps the dotted path of each field besides ``messages`` to how many rows have it (``count``)
    and the line of the first row that does not (``first_missing``, None when all have it).
    """

    count: int = 0
    fields: dict[str, dict[str, int | None]] = field(default_factory=dict)


def check_training_file(path: Path, max_line_bytes: int) -> Rows:
    """Read a whole file. Raises BadRequest naming the first line at fault and what is wrong with it."""
    rows = Rows()
    first_line = 0
    for number, line in lines(path, max_line_bytes):
        row = _row(number, line)
        _check_messages(number, row)
        present = set(field_paths(row))
        for name in present - rows.fields.keys():
            if len(rows.fields) < MAX_FIELDS:
                rows.fields[name] = {"count": 0, "first_missing": first_line or None}
        for name, seen in rows.fields.items():
            if name in present:
                seen["count"] = (seen["count"] or 0) + 1
            elif seen["first_missing"] is None:
                seen["first_missing"] = number
        rows.count += 1
        first_line = first_line or number
    if not rows.count:
        raise _bad("The file is empty: it needs at least one line, a JSON object with 'messages'.")
    return rows


def lines(path: Path, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The lines that have something on them, with their numbers from 1."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(max_line_bytes + 1):
            number += 1
            if len(line) > max_line_bytes:
                raise _bad(f"Line {number} is longer than {max_line_bytes} bytes, the most a line may have.")
            if stripped := line.strip():
                yield number, stripped


def field_paths(row: dict[str, Any]) -> Iterator[str]:
    """Dotted paths of what a grader can read from a row: all but ``messages``, and nothing that is null."""
    pending: list[tuple[str, Any]] = [("", {key: value for key, value in row.items() if key != "messages"})]
    while pending:
        prefix, value = pending.pop()
        for key, child in value.items():
            if child is None or not _KEY.fullmatch(key):
                continue
            yield prefix + key
            if isinstance(child, dict):
                pending.append((f"{prefix}{key}.", child))


def first_row_without(path: Path, name: str, max_line_bytes: int) -> int | None:
    """The line of the first row that has no value at the dotted path ``name``, found by reading the file.

    Slower than the index, and sees more: elements of lists (``choices.0``), fields that the index left out.
    """
    for number, line in lines(path, max_line_bytes):
        value = {key: child for key, child in parse(line).items() if key != "messages"}
        for step in name.split("."):
            if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return number
    return None


def _row(number: int, line: bytes) -> dict[str, Any]:
    if b"\r" in line:
        raise _bad(f"Line {number} has a carriage return inside; end lines with \\n or \\r\\n.")
    try:
        row = parse(line)
    except BadJson as error:
        raise _bad(f"Line {number}: {error}.") from None
    if not isinstance(row, dict):
        raise _bad(f"Line {number} is {abbreviated(row)}; each line must be a JSON object with 'messages'.")
    return row


def _check_messages(number: int, row: dict[str, Any]) -> None:
    messages = row.get("messages")
    where = f"Line {number}: 'messages'"
    if "messages" not in row:
        raise _bad(f"Line {number} has no 'messages'. Its keys are: {one_of(list(row))}.")
    if not isinstance(messages, list) or not messages:
        raise _bad(f"{where} is {abbreviated(messages)}; it must be a list of at least one message.")
    for index, message in enumerate(messages):
        _check_message(f"Line {number}: 'messages.{index}", message)
    if messages[-1]["role"] != "user":
        raise _bad(
            f"{where} ends with a message of role '{messages[-1]['role']}'; the last one must be the user's, "
            "for the model is trained on its own answers to it."
        )


def _check_message(where: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise _bad(f"{where}' is {abbreviated(message)}; a message is an object with 'role' and 'content'.")
    for key in ("role", "content"):
        if key not in message:
            raise _bad(f"{where}' has no '{key}'; a message is an object with 'role' and 'content'.")
    if message["role"] not in ROLES:
        raise _bad(f"{where}.role' is {abbreviated(message['role'])}; it must be one of: {', '.join(ROLES)}.")
    if not isinstance(message["content"], str):
        raise _bad(f"{where}.content' is {abbreviated(message['content'])}; it must be a string.")
    unknown = message.keys() - {"role", "content"}
    if unknown:
        raise _bad(f"{where}.{min(unknown)[:80]}' is unknown; a message has 'role' and 'content'.")


def _bad(message: str) -> BadRequest:
    return BadRequest(message, param="file", code="invalid_file")
