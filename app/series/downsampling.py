"""Fewer points that show the same curve: the extremes stay.

The first and the last point stay. The steps between are divided into buckets of equal width, and of each
bucket the smallest and the largest value stay (of equal ones the earliest), so that no spike and no dip is
lost.
"""

import numpy as np

from app.series.blocks import Curve


def thinned(curve: Curve, most: int) -> Curve:
    """At most ``most`` (at least 4) of a curve's points; one that has no more is left as it is."""
    steps, values = curve
    if len(steps) <= most:
        return curve
    buckets, width = (most - 2) // 2, int(steps[-1] - steps[0] - 1)
    edges = steps[0] + 1 + np.arange(buckets + 1) * width // buckets
    places = np.searchsorted(steps, edges)
    starts, sizes = places[:-1], np.diff(places)
    # Of an empty bucket reduceat would take the point that follows.
    starts, sizes = starts[sizes > 0], sizes[sizes > 0]
    kept = [np.array([0, len(steps) - 1])]
    inside = values[places[0] : places[-1]]
    for extreme in (np.minimum, np.maximum):
        among = np.repeat(extreme.reduceat(inside, starts - places[0]), sizes) == inside
        bucket = np.repeat(np.arange(len(sizes)), sizes)[among]
        _, first = np.unique(bucket, return_index=True)
        kept.append(places[0] + np.flatnonzero(among)[first])
    chosen = np.unique(np.concatenate(kept))
    return Curve(steps[chosen], values[chosen])
