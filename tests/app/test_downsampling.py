"""Thinning in the database against its definition, worked out step by step in Python."""

import random

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.metrics.downsampling import extent, thinned
from app.metrics.repository import upsert_steps
from app.tables import DEFAULT_PROJECT, Job, MetricSeries


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


@pytest.fixture
def session(engine: Engine):
    with Session(engine) as session:
        session.add(
            Job(
                id="ftjob-1",
                project_id=DEFAULT_PROJECT,
                request_sha256="",
                created_at=0.0,
                status="running",
                model="tiny",
                seed=0,
                method={},
                run_spec={},
                total_steps=1,
            )
        )
        session.flush()
        yield session


def test_thinned_series(session: Session):
    draw = random.Random(0)
    shapes = {
        "dense": {step: draw.random() for step in range(1, 1200)},
        "with gaps": {draw.randrange(10_000): draw.choice([0.0, 1.0, draw.random()]) for _ in range(900)},
        "far apart": {0: 1.0, **{2**31 - 400 + n: float(n % 7) for n in range(300)}},
        "flat": dict.fromkeys(range(50, 350), 1.0),
    }
    for name, points in shapes.items():
        upsert_steps(session, "ftjob-1", {step: {name: value} for step, value in points.items()})
        number = session.query(MetricSeries.id).filter(MetricSeries.name == name).one()[0]
        count, lowest, highest = extent(session, number, 0, 2**31 - 1)
        assert (count, lowest, highest) == (len(points), min(points), max(points))
        for most in (4, 5, 7, 50, 299):
            found = thinned(session, number, lowest, highest, most)
            assert found == expected(points, most), (name, most)
            assert len(found) <= most
            values = [value for _, value in found]
            assert (min(values), max(values)) == (min(points.values()), max(points.values()))
    part = {step: value for step, value in shapes["dense"].items() if 100 <= step <= 900}
    number = session.query(MetricSeries.id).filter(MetricSeries.name == "dense").one()[0]
    count, lowest, highest = extent(session, number, 100, 900)
    assert count == 801
    assert thinned(session, number, lowest, highest, 20) == expected(part, 20)
    assert extent(session, number, 5000, 6000) == (0, None, None)
