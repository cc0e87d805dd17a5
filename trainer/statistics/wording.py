"""How a number, and a difference, read in a sentence or a table."""


def typeset(value: float, form: str) -> str:
    """In a format of Python's, with a minus as wide as a digit."""
    return f"{value:{form}}".replace("-", "−")


def signed(value: float, places: int = 4) -> str:
    """With its sign."""
    return typeset(value, f"+.{places}f")


def with_interval(delta: float, low: float, high: float, words: str = ", 95 % CI") -> str:
    """A difference with its 95 % interval; ``words`` may be left out where a heading says them."""
    return f"{signed(delta)}{words} [{signed(low)}, {signed(high)}]"
