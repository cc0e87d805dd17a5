"""A series of numbers as a line of block characters."""

from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(
    values: Sequence[float], width: int = 30, low: float | None = None, high: float | None = None
) -> str:
    """``values`` in at most ``width`` characters, each the mean of the values it stands for.

    The scale goes from ``low`` to ``high``; by default from the least to the greatest value.
    """
    if not values:
        return ""
    columns = min(width, len(values))
    edges = [round(index * len(values) / columns) for index in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    bottom = min(means) if low is None else low
    top = max(means) if high is None else high
    span = (top - bottom) or 1.0
    levels = [(mean - bottom) / span * (len(BLOCKS) - 1) for mean in means]
    return "".join(BLOCKS[min(max(round(level), 0), len(BLOCKS) - 1)] for level in levels)
