"""What a mean cannot leave, by what it is a mean of."""

import math

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)
#: Of an accuracy, or of pass@k.
SHARE: Bounds = (0.0, 1.0)


def of_difference(bounds: Bounds) -> Bounds:
    """Of a difference of two means within ``bounds``: ±1 for shares."""
    width = bounds[1] - bounds[0]
    return -width, width
