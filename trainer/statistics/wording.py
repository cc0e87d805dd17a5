"""How a number, and a difference, read in a sentence or a table."""

import math


def typeset(value: float, form: str) -> str:
    """In a format of Python's, with a minus as wide as a digit."""
    return f"{value:{form}}".replace("-", "−")


def signed(value: float, places: int = 4) -> str:
    """With its sign."""
    return typeset(value, f"+.{places}f")


def with_interval(delta: float, low: float, high: float, words: str = ", 95 % CI") -> str:
    """A difference with its interval; ``words`` say of what chance, and may be left out where a heading does.

    An end that is infinite is said as a word: nothing is known.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{signed(delta)}{words} [unknown]"
    return f"{signed(delta)}{words} [{signed(low)}, {signed(high)}]"


def interval_ends(low: float | None, high: float | None, places: int = 4) -> str:
    """Of an interval in a table, where they are known."""
    return "unknown" if low is None or high is None else f"{signed(low, places)} … {signed(high, places)}"
