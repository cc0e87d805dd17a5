"""What a check comes to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and where that is not well, what to ``do``."""

    check: str
    status: Status
    found: str
    do: str = ""


#: What a file of checks offers; it may end early where later ones have nothing to stand on.
Checks = Callable[[], Iterator[Finding]]


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, do: str) -> Finding:
    """It works now, and may not always."""
    return Finding(check, "warning", found, do)


def failed(check: str, found: str, do: str) -> Finding:
    """What needs this does not work."""
    return Finding(check, "failed", found, do)
