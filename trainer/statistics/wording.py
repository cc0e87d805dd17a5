"""How a difference reads in a sentence or a table."""


def signed(value: float, places: int = 4) -> str:
    """With its sign, and a minus as wide as a digit."""
    return f"{value:+.{places}f}".replace("-", "−")


def with_interval(delta: float, low: float, high: float, words: str = ", 95 % CI") -> str:
    """A difference with its 95 % interval; ``words`` may be left out where a heading says them."""
    return f"{signed(delta)}{words} [{signed(low)}, {signed(high)}]"
