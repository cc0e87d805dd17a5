"""Log lines: text for people, or with ``POLICYSPLIT_LOG_FORMAT=json`` an object a line, for programs.

What a line is about (project, job, attempt, request) is kept beside the code that writes it: whoever begins
to work on something says so by :func:`about`, whoever learns more meanwhile by :func:`note`. Threads get it
where they are started by :func:`carried`, and children of ours by :func:`environment`.
"""

import contextvars
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

FORMAT, FIELDS = "POLICYSPLIT_LOG_FORMAT", "POLICYSPLIT_LOG_FIELDS"
LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_ABOUT: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("about")


def wants_json() -> bool:
    """Whether this process writes objects."""
    return os.environ.get(FORMAT, "").lower() == "json"


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Within the block lines are about this, beside what they are about already."""
    token = _ABOUT.set({**_known(), **_texts(fields)})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def note(**fields: object) -> None:
    """From here on to the end of the innermost :func:`about` lines are about this, too."""
    if (known := _ABOUT.get(None)) is not None:
        known.update(_texts(fields))


def carried(work: Callable[[], None]) -> Callable[[], None]:
    """``work``, about the same, for a thread of its own."""
    context = contextvars.copy_context()
    return lambda: context.run(work)


def environment() -> dict[str, str]:
    """What a child has to be told, so that its lines are of the same form and about the same."""
    return {FORMAT: "json", FIELDS: json.dumps(_known())} if wants_json() else {}


def set_up(process: str, line: str = LINE, level: int = logging.INFO) -> None:
    """Have this process write to standard error: ``line`` a record, or objects that name the ``process``."""
    handler = _ToStandardError()
    handler.setFormatter(formatter(line, process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    given = json.loads(os.environ.get(FIELDS) or "{}")
    if given:
        _ABOUT.set(given)


def formatter(line: str = LINE, process: str = "api") -> logging.Formatter:
    """As the format says."""
    return _Objects(process) if wants_json() else logging.Formatter(line)


class _Objects(logging.Formatter):
    def __init__(self, process: str):
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_known(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


class _ToStandardError(logging.Handler):
    """Whatever that is when a line is written."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def known() -> dict[str, str]:
    """What lines are about just now."""
    return dict(_known())


def _known() -> dict[str, str]:
    return _ABOUT.get(None) or {}


def _texts(fields: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items()}
