"""Where a load goes, and what is added to each request there."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """A URL for chat completions."""

    name: str
    url: str
    body: dict[str, Any] = field(default_factory=dict)
