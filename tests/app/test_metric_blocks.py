"""Points that are packed away are the points that were written, on both databases."""

import random

import numpy as np
import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.core.db import build_engine
from app.core.job_status import JobStatus
from app.core.migrate import alembic_config, upgrade_to_head
from app.core.tables import DEFAULT_PROJECT, Job, MetricBlock, MetricPoint
from app.jobs.status import change_status
from app.series.blocks import BLOCK_STEPS, Curve, pack, unpack
from app.series.repository import (
    curves,
    curves_of_job,
    last_points,
    seal,
    series,
    table,
    upsert_steps,
)

JOB = "ftjob-1"


def add_job(session: Session) -> Job:
    job = Job(
        id=JOB,
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
    session.add(job)
    session.flush()
    return job


@pytest.fixture
def session(engine: Engine):
    with Session(engine) as session:
        add_job(session)
        yield session


def rows(session: Session) -> tuple[int, int]:
    """How many points and how many blocks there are."""
    points, blocks = (select(func.count()).select_from(one) for one in (MetricPoint, MetricBlock))
    return session.scalar(points) or 0, session.scalar(blocks) or 0


def by_name(session: Session, first: int = 0, last: int = 2**31 - 1) -> dict[str, dict[int, float]]:
    return {
        name: dict(curve.pairs())
        for name, curve in curves_of_job(session, JOB, None, first, last).items()
        if len(curve.steps)
    }


@given(
    number=st.integers(0, (2**31 - 1) // BLOCK_STEPS - 1),
    points=st.dictionaries(
        st.integers(0, BLOCK_STEPS - 1), st.floats(allow_nan=False, allow_infinity=False), min_size=1
    ),
)
def test_a_block_holds_what_was_packed(number: int, points: dict[int, float]):
    for some in (points, dict.fromkeys(range(BLOCK_STEPS), 0.1) | points):
        steps = np.array(sorted(some), np.int64)
        curve = Curve(number * BLOCK_STEPS + steps, np.array([some[step] for step in sorted(some)]))
        assert unpack(number, pack(curve)).pairs() == curve.pairs()
    assert len(pack(curve)) == 8 * BLOCK_STEPS


def test_a_run_that_is_killed_and_resumed_over_and_over(session: Session):
    """Written a step at a time, with steps done again: what is read is what was written last, always."""
    draw, written = random.Random(0), {"dense": {}, "rare": {}, "late": {}}
    step, killed = 0, {300: 170, 490: 100, 719: 715, 730: 650}
    while step < 800:
        values = {"dense": draw.random()}
        if step % 25 == 0:
            values["rare"] = draw.random()
        if step > 500:
            values["late"] = draw.random()
        upsert_steps(session, JOB, {step: values})
        for name, value in values.items():
            written[name][step] = value
        step = killed.pop(step, step + 1)
    assert by_name(session) == written
    assert rows(session)[0] < 3 * BLOCK_STEPS < rows(session)[1] * BLOCK_STEPS
    part = {name: {s: v for s, v in points.items() if 100 <= s <= 600} for name, points in written.items()}
    assert by_name(session, 100, 600) == part
    last = [(name, max(points), points[max(points)]) for name, points in sorted(written.items())]
    assert last_points(session, JOB) == last

    # A worker that was behind: many steps at once, of which some are rows, some packed, and some new.
    many = {step: draw.random() for step in range(700, 1000)}
    upsert_steps(session, JOB, {step: {"dense": value} for step, value in many.items()})
    written["dense"] |= many
    last[0] = ("dense", 999, many[999])
    assert by_name(session) == written
    assert last_points(session, JOB) == last

    change_status(session, session.get_one(Job, JOB), JobStatus.SUCCEEDED, message="done")
    assert rows(session) == (0, 5 + 4 + 2)
    assert by_name(session) == written
    assert last_points(session, JOB) == last


def test_a_table_of_steps_goes_over_gaps_and_misses_none(session: Session):
    steps = [0, 1, 2, 239, 240, 241, 5000, 5001, 2**31 - 1]
    upsert_steps(session, JOB, {step: {"a": step / 2, "b": 1.0} for step in steps})
    upsert_steps(session, JOB, {step: {"a": -1.0} for step in (240, 5000)})
    numbers = {name: number for number, name in series(session, JOB)}
    for _ in range(2):
        for limit in (1, 3, 500):
            found, after = {}, -1
            while part := table(session, list(numbers.values()), after, limit):
                assert len(part) <= limit
                found |= part
                after = max(part)
            assert list(found) == steps
            assert found[240] == {numbers["a"]: -1.0, numbers["b"]: 1.0}
        assert table(session, [numbers["b"]], 5001, 10) == {2**31 - 1: {numbers["b"]: 1.0}}
        seal(session, JOB)
    assert curves(session, [numbers["a"]], 6, 200)[numbers["a"]].pairs() == []
    assert curves(session, [numbers["a"]], 239, 5000)[numbers["a"]].pairs() == [
        (239, 119.5),
        (240, -1.0),
        (241, 120.5),
        (5000, -1.0),
    ]


def test_going_back_to_rows_keeps_every_point(empty_database_url: str):
    url = empty_database_url
    upgrade_to_head(url)
    engine = build_engine(url)
    written = {"a": {step: step / 7 for step in range(1, 600)}, "b": {0: -0.5, 300: 2.0}}
    try:
        with Session(engine) as session, session.begin():
            add_job(session)
            for name, points in written.items():
                upsert_steps(session, JOB, {step: {name: value} for step, value in points.items()})
            seal(session, JOB)
            upsert_steps(session, JOB, {300: {"b": 3.0}})
        written["b"][300] = 3.0
        command.downgrade(alembic_config(url), "0010")
        upgrade_to_head(url)
        with Session(engine) as session:
            assert rows(session) == (599 + 2, 0)
            assert by_name(session) == written
    finally:
        engine.dispose()
