"""Thinning against its definition, worked out step by step in Python."""

import random

import numpy as np
import pytest

from app.series.blocks import Curve
from app.series.downsampling import thinned

_DRAW = random.Random(0)
SHAPES = {
    "dense": {step: _DRAW.random() for step in range(1, 1200)},
    "with gaps": {_DRAW.randrange(10_000): _DRAW.choice([0.0, 1.0, _DRAW.random()]) for _ in range(900)},
    "far apart": {0: 1.0, **{2**31 - 400 + n: float(n % 7) for n in range(300)}},
    "flat": dict.fromkeys(range(50, 350), 1.0),
}


def expected(points: dict[int, float], most: int) -> list[tuple[int, float]]:
    steps = sorted(points)
    lowest, highest, buckets = steps[0], steps[-1], (most - 2) // 2
    width = highest - lowest - 1
    kept = {lowest, highest}
    for n in range(buckets):
        start = lowest + 1 + n * width // buckets
        stop = lowest + 1 + (n + 1) * width // buckets
        inside = [step for step in steps if start <= step < stop]
        if inside:
            kept.add(min(inside, key=lambda step: (points[step], step)))
            kept.add(min(inside, key=lambda step: (-points[step], step)))
    return [(step, points[step]) for step in sorted(kept)]


@pytest.mark.parametrize("name", SHAPES)
def test_thinned_series(name: str):
    points = SHAPES[name]
    steps = sorted(points)
    curve = Curve(np.array(steps), np.array([points[step] for step in steps]))
    for most in (4, 5, 7, 50, 299):
        found = thinned(curve, most).pairs()
        assert found == expected(points, most)
        assert len(found) <= most
        values = [value for _, value in found]
        assert (min(values), max(values)) == (min(points.values()), max(points.values()))
    assert thinned(curve, len(points)) is curve
