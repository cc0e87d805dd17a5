"""How commands answer: a sentence or a table whose cells are never cut, or JSON for programs."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.text import Text

from app.cli.console import out
from app.core.strict_json import JsonObject

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option(min=1, max=100, help="How many.")]
_GAP = "  "


def say_json(value: object) -> None:
    """``value`` as JSON, and nothing else, on standard output; what JSON does not know as its text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say_done(value: object, as_json: bool, *sentences: str) -> None:
    """What a command has changed: ``value`` for programs, or for people sentences, in markup."""
    if as_json:
        say_json(value)
        return
    for sentence in sentences:
        out.print(sentence, soft_wrap=True)


def say_list(
    found: Sequence[JsonObject],
    as_json: bool,
    headers: Sequence[str],
    row: Callable[[JsonObject], Sequence[str]],
    nothing: str,
) -> None:
    """What the service has of a kind: for programs as it is, for people a table of a ``row`` each, or
    ``nothing``."""
    if as_json:
        say_json(found)
    elif not found:
        out.print(nothing)
    else:
        say_table(headers, [row(one) for one in found])


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of cells in markup. Lines are as long as they have to be: an id is there to be copied."""
    table = [
        [Text(name, style="bold") for name in headers],
        *([Text.from_markup(c) for c in row] for row in rows),
    ]
    widths = [max(cell_len(row[column].plain) for row in table) for column in range(len(headers))]
    for row in table:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            line.append_text(cell)
            line.append(" " * (width - cell_len(cell.plain)) + _GAP)
        line.rstrip()
        out.print(line, soft_wrap=True)


def when(seconds: float | None, now: float | None = None) -> str:
    """A time as people say it; nothing for None."""
    if seconds is None:
        return ""
    ago = (time.time() if now is None else now) - seconds
    if 0 <= ago < 60:
        return "just now"
    if 0 <= ago < 3600:
        return f"{ago // 60:.0f} min ago"
    if 0 <= ago < 24 * 3600:
        return f"{ago // 3600:.0f} h ago"
    at = datetime.fromtimestamp(seconds)
    this_year = at.year == datetime.fromtimestamp(seconds + ago).year
    return f"{at.day} {at:%b %H:%M}" if this_year else f"{at.day} {at:%b %Y}"


def moment(seconds: float) -> str:
    """A time to the second."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def size(number: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.{1 if unit == 'GB' and number < 10 else 0}f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
