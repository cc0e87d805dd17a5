"""One attempt and what came of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """``held``: the service did not let it happen; ``seen``: what was seen instead, in a few words."""

    kind: str
    name: str
    held: bool
    seen: str
