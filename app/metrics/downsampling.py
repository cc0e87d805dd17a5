"""Fewer points that show the same curve: the extremes stay."""

from collections.abc import Sequence

Point = tuple[int, float]


def keep_extremes(points: Sequence[Point], most: int) -> list[Point]:
    """At most ``most`` (at least 4) of ``points``, which are in the order of their steps.

    The first and the last stay; the steps between are divided into buckets of equal width, and of each bucket
    the smallest and the largest value stay, so that no spike and no dip is lost.
    """
    if len(points) <= most:
        return list(points)
    first, *inner, last = points
    buckets = (most - 2) // 2
    width = (last[0] - first[0]) / buckets
    kept: list[Point] = [first]
    start = 0
    for bucket in range(buckets):
        end = first[0] + width * (bucket + 1)
        stop = start
        while stop < len(inner) and (inner[stop][0] <= end or bucket == buckets - 1):
            stop += 1
        if stop > start:
            members = inner[start:stop]
            extremes = {min(members, key=_value), max(members, key=_value)}
            kept.extend(sorted(extremes))
        start = stop
    return [*kept, last]


def _value(point: Point) -> float:
    return point[1]
