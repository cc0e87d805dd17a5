"""Uploaded files: JSONL, checked line by line, with an index of which rows have which field."""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.errors import BadRequest
from app.core.strict_json import BadJson, parse
from app.core.validation import abbreviated, one_of
from trainer.graders.templates import has_value
from trainer.spec.messages import BadMessages
from trainer.spec.rows import READERS, Method, likely_method

#: The index holds no more than this; what is not in it is looked up in the file.
MAX_FIELDS = 1000
# What a grader's template can name (trainer.graders.templates).
_KEY = re.compile(r"\w{1,128}")


@dataclass
class Rows:
    """What is known of a valid file.

    ``fields`` maps the dotted path of each field besides ``messages`` to how many rows have it (``count``)
    and the line of the first row that does not (``first_missing``, None when all have it); of a file for
    evals those of its items. ``unfit`` says why a method cannot learn from the file: its first row that it
    cannot learn from.
    """

    count: int = 0
    fields: dict[str, dict[str, int | None]] = field(default_factory=dict)
    unfit: dict[Method, str] = field(default_factory=dict)


def check_training_file(path: Path, max_line_bytes: int) -> Rows:
    """Read a whole file. Raises BadRequest naming the first line at fault and what is wrong with it."""
    return _checked(path, max_line_bytes, "'messages'", _training_row)


def check_evals_file(path: Path, max_line_bytes: int) -> Rows:
    """Likewise a file of items for evals: ``{"item": {…}}``, and ``sample`` where the answer is there."""
    return _checked(path, max_line_bytes, "'item'", _evals_row)


def _checked(
    path: Path,
    max_line_bytes: int,
    needed: str,
    check: Callable[["Rows", int, dict[str, object]], dict[str, object]],
) -> Rows:
    """``check`` raises BadRequest, or gives what of the row templates read as ``item``."""
    rows = Rows()
    first_line = 0
    for number, line in lines(path, max_line_bytes):
        present = set(field_paths(check(rows, number, _row(number, line, needed))))
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
        raise _bad(f"The file is empty: it needs at least one line, a JSON object with {needed}.")
    return rows


def lines(path: Path, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The lines that have something on them, with their numbers from 1."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(max_line_bytes + 1):
            number += 1
            if len(line) > max_line_bytes:
                raise _bad(f"Line {number} is longer than the limit of {max_line_bytes} bytes.")
            if number == 1:  # some editors, and some guides, put a byte-order mark in front
                line = line.removeprefix(codecs.BOM_UTF8)
            if stripped := line.strip():
                yield number, stripped


def field_paths(row: dict[str, object]) -> Iterator[str]:
    """Dotted paths of what a grader can read from a row but ``messages``, and nothing that is null."""
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
    """The line of the first row in which ``item.{name}`` of a grader has no value, found by reading the file.

    Slower than the index, and sees more: elements of lists (``choices[0]``), messages, fields that the index
    left out.
    """
    for number, line in lines(path, max_line_bytes):
        if not has_value(parse(line), f"item.{name}"):
            return number
    return None


def _row(number: int, line: bytes, needed: str) -> dict[str, object]:
    if b"\r" in line:
        raise _bad(f"Line {number} contains a carriage return; end lines with \\n or \\r\\n.")
    try:
        row = parse(line)
    except BadJson as error:
        raise _bad(f"Line {number}: {error}.") from None
    if not isinstance(row, dict):
        raise _bad(f"Line {number} is {abbreviated(row)}; each line must be a JSON object with {needed}.")
    return row


def _evals_row(_rows: Rows, number: int, row: dict[str, object]) -> dict[str, object]:
    item, sample = row.get("item"), row.get("sample")
    if not isinstance(item, dict):
        found = f"Its keys are: {one_of(list(row))}" if item is None else f"It is {abbreviated(item)}"
        raise _bad(f"Line {number} has no object 'item', which templates read as item. {found}.")
    if sample is not None and not isinstance(sample, dict):
        raise _bad(f"Line {number}: 'sample' is {abbreviated(sample)}; it must be an object or left out.")
    if others := row.keys() - {"item", "sample"}:
        raise _bad(
            f"Line {number} has {one_of(sorted(others))} besides 'item' and 'sample': put it in 'item', "
            "where templates can read it."
        )
    return item


def _training_row(rows: Rows, number: int, row: dict[str, object]) -> dict[str, object]:
    _check_methods(rows, number, row)
    return row


def _check_methods(rows: Rows, number: int, row: dict[str, object]) -> None:
    """Which methods the row rules out. Raises BadRequest where none is left."""
    if "messages" not in row and likely_method(row) != "dpo":
        raise _bad(f"Line {number} has no 'messages'. Its keys are: {one_of(list(row))}.")
    problems: dict[Method, str] = {}
    for method, read in READERS.items():
        if method not in rows.unfit:
            try:
                read(row)
            except BadMessages as error:
                problems[method] = f"Line {number}: {error}."
    rows.unfit |= problems
    if len(rows.unfit) == len(READERS):
        # Of what the rows before left, or else of what the row looks like.
        raise _bad(problems.get(likely_method(row)) or next(iter(problems.values())))


def _bad(message: str) -> BadRequest:
    return BadRequest(message, param="file", code="invalid_file")
