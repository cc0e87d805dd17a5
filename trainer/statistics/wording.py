"""How a difference reads in a sentence or a table."""


def signed(value: float) -> str:
    """To four places, with a minus as wide as a digit."""
    return f"{value:+.4f}".replace("-", "−")


def with_interval(delta: float, low: float, high: float) -> str:
    """A difference with its 95 % interval."""
    return f"{signed(delta)}, 95 % CI [{signed(low)}, {signed(high)}]"
