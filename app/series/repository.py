"""Rows of metric series: written by the worker, read by the API.

A point is a row of ``metric_points`` at first. When a block of steps is over, and when a job ends, its
points are packed into a row of ``metric_blocks`` (:func:`seal`). A step that is done again later, after a
resume, is a row once more and counts before the block's, until it is packed in turn. So readers ask here,
where both are put together.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Delete, delete, func, select
from sqlalchemy.orm import Session, aliased

from app.core.tables import MetricBlock, MetricPoint, MetricSeries
from app.core.upsert import insert_for, upsert_rows
from app.series.blocks import BLOCK_STEPS, EMPTY, Curve, merged, pack, unpack

MAX_STEP = 2**31 - 1
#: What a writer packs along: more than a relay is ever behind.
RECENT_BLOCKS = 8
#: What is packed of a series in one transaction, later: some 2,000 points.
BLOCKS_AT_ONCE = 8


def upsert_steps(session: Session, job_id: str, steps: Mapping[int, Mapping[str, float]]) -> None:
    """Record the metrics of steps, in as many statements as for one. Repeating a step overwrites it: there is
    one point for each (series, step).

    Values that are not finite have no point.
    """
    found = [
        (name, step, float(value))
        for step, values in steps.items()
        for name, value in values.items()
        if math.isfinite(value)
    ]
    if not found:
        return
    ids = _series_ids(session, job_id, {name for name, _, _ in found})
    begins = any(step % BLOCK_STEPS == 0 for step in steps)
    before = max(steps) // BLOCK_STEPS if begins else 0
    # Many steps at once, of a worker that was behind: what is to be packed at once is not a row before.
    over = [(ids[name], step, value) for name, step, value in found if step < before * BLOCK_STEPS]
    rows = [
        {"series_id": ids[name], "step": step, "value": value}
        for name, step, value in found
        if step >= before * BLOCK_STEPS
    ]
    upsert_rows(session, MetricPoint, ("series_id", "step"), rows)
    if begins:
        seal(session, job_id, before=before, newer=over)


def seal(
    session: Session,
    job_id: str,
    *,
    before: int | None = None,
    newer: Sequence[tuple[int, int, float]] = (),
    reached: int = 0,
) -> None:
    """Pack a job's points: those of blocks below number ``before``, or all; and ``newer`` ones, which are no
    rows: (series number, step, value).

    Points of more than :data:`RECENT_BLOCKS` blocks before ``before``, or before the step that was
    ``reached``, are of a release that did not pack, and wait for :func:`pack_some`.

    The caller holds the job's row, as for every writing of metrics: nobody else packs them meanwhile.
    """
    mine = MetricPoint.series_id.in_(select(MetricSeries.id).where(MetricSeries.job_id == job_id))
    newest = reached // BLOCK_STEPS if before is None else before
    over = [MetricPoint.step >= (newest - RECENT_BLOCKS) * BLOCK_STEPS]
    if before is not None:
        over.append(MetricPoint.step < before * BLOCK_STEPS)
    _pack(session, delete(MetricPoint).where(mine, *over), newer)


def next_series_with_points(session: Session, after: int) -> int | None:
    """The series after number ``after`` that has points which are rows."""
    return session.scalar(select(func.min(MetricPoint.series_id)).where(MetricPoint.series_id > after))


def pack_some(session: Session, series_id: int) -> bool:
    """Pack the next few blocks of a series whose job has ended, and is held by the caller; whether there were
    any."""
    of_series = MetricPoint.series_id == series_id
    first = session.scalar(select(func.min(MetricPoint.step)).where(of_series))
    if first is None:
        return False
    end = (first // BLOCK_STEPS + BLOCKS_AT_ONCE) * BLOCK_STEPS
    _pack(session, delete(MetricPoint).where(of_series, MetricPoint.step < end))
    return True


def _pack(session: Session, taken: Delete, newer: Sequence[tuple[int, int, float]] = ()) -> None:
    # What was deleted is what is packed, whatever comes in between.
    columns = MetricPoint.series_id, MetricPoint.step, MetricPoint.value
    rows = session.connection().execute(taken.returning(*columns)).all()
    blocks: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for series_id, step, value in [*rows, *newer]:
        blocks[series_id, step // BLOCK_STEPS][step] = value
    if not blocks:
        return
    there = _blocks(session, {series for series, _ in blocks}, {number for _, number in blocks})
    packed = [
        {
            "series_id": series_id,
            "number": number,
            "packed": pack(merged(there.get((series_id, number), EMPTY), _curve(sorted(points.items())))),
        }
        for (series_id, number), points in blocks.items()
    ]
    upsert_rows(session, MetricBlock, ("series_id", "number"), packed)


def _blocks(session: Session, series: Iterable[int], numbers: Iterable[int]) -> dict[tuple[int, int], Curve]:
    columns = MetricBlock.series_id, MetricBlock.number, MetricBlock.packed
    query = select(*columns).where(MetricBlock.series_id.in_(series), MetricBlock.number.in_(numbers))
    return {
        (series_id, number): unpack(number, packed)
        for series_id, number, packed in session.execute(query).all()
    }


def _curve(points: Sequence[tuple[int, float]]) -> Curve:
    """``points`` in order."""
    steps, values = zip(*points, strict=True)
    return Curve(np.array(steps, np.int64), np.array(values, float))


def _series_ids(session: Session, job_id: str, names: set[str]) -> dict[str, int]:
    """Numbers of the named series, made where they are missing."""
    query = select(MetricSeries.name, MetricSeries.id).where(
        MetricSeries.job_id == job_id, MetricSeries.name.in_(names)
    )
    found = dict(session.execute(query).all())
    missing = sorted(names - found.keys())
    if missing:
        statement = insert_for(session, MetricSeries).values(
            [{"job_id": job_id, "name": name} for name in missing]
        )
        # Another writer may have made the same series meanwhile: then ours does nothing and the
        # second look finds theirs.
        session.execute(statement.on_conflict_do_nothing(index_elements=["job_id", "name"]))
        found = dict(session.execute(query).all())
    return found


def series(session: Session, job_id: str) -> list[tuple[int, str]]:
    """Number and name of each of a job's series, by name."""
    query = select(MetricSeries.id, MetricSeries.name).where(MetricSeries.job_id == job_id)
    return list(session.execute(query.order_by(MetricSeries.name)).all())


def curves(
    session: Session, series_ids: Sequence[int], first: int = 0, last: int = MAX_STEP
) -> dict[int, Curve]:
    """The points of each of the series from step ``first`` to ``last``, by its number."""
    # Rows first: what is packed between the two queries is then found twice, and not missed.
    query = (
        select(MetricPoint.series_id, MetricPoint.step, MetricPoint.value)
        .where(MetricPoint.series_id.in_(series_ids), MetricPoint.step.between(first, last))
        .order_by(MetricPoint.series_id, MetricPoint.step)
    )
    rows: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for series_id, step, value in session.execute(query).all():
        rows[series_id].append((step, value))
    query = (
        select(MetricBlock.series_id, MetricBlock.number, MetricBlock.packed)
        .where(
            MetricBlock.series_id.in_(series_ids),
            MetricBlock.number.between(first // BLOCK_STEPS, last // BLOCK_STEPS),
        )
        .order_by(MetricBlock.series_id, MetricBlock.number)
    )
    blocks: dict[int, list[Curve]] = defaultdict(list)
    for series_id, number, packed in session.execute(query).all():
        blocks[series_id].append(unpack(number, packed))
    return {
        number: merged(
            _joined(blocks[number]).between(first, last), _curve(rows[number]) if rows[number] else EMPTY
        )
        for number in series_ids
    }


def _joined(blocks: Sequence[Curve]) -> Curve:
    if not blocks:
        return EMPTY
    return Curve(
        np.concatenate([block.steps for block in blocks]), np.concatenate([block.values for block in blocks])
    )


def curves_of_job(
    session: Session,
    job_id: str,
    names: Sequence[str] | None = None,
    first: int = 0,
    last: int = MAX_STEP,
) -> dict[str, Curve]:
    """:func:`curves` of a job's series, or of the named ones of them, by name."""
    ids = {number: name for number, name in series(session, job_id) if names is None or name in names}
    return {ids[number]: curve for number, curve in curves(session, list(ids), first, last).items()}


def last_points(session: Session, job_id: str) -> list[tuple[str, int, float]]:
    """Name, last step and value of each of a job's series, by name."""
    of_job = MetricSeries.job_id == job_id
    rows = select(MetricSeries.id, MetricPoint.step, MetricPoint.value)
    rows = rows.join(MetricPoint, _is_last(MetricPoint, "step")).where(of_job)
    found = {number: (step, value) for number, step, value in session.execute(rows).all()}
    blocks = select(MetricSeries.id, MetricBlock.number, MetricBlock.packed)
    blocks = blocks.join(MetricBlock, _is_last(MetricBlock, "number")).where(of_job)
    for series_id, number, packed in session.execute(blocks).all():
        step, value = unpack(number, packed).pairs()[-1]
        if series_id not in found or found[series_id][0] < step:
            found[series_id] = (step, value)
    return [(name, *found[number]) for number, name in series(session, job_id) if number in found]


def _is_last(table: type[MetricPoint] | type[MetricBlock], key: str) -> Any:
    """A row is the last one of its series: a look at the end of a key, however long the series is."""
    again = aliased(table)
    last = select(func.max(getattr(again, key))).where(again.series_id == MetricSeries.id)
    last = last.correlate(MetricSeries).scalar_subquery()
    return (table.series_id == MetricSeries.id) & (getattr(table, key) == last)


def table(session: Session, series_ids: Sequence[int], after: int, limit: int) -> dict[int, dict[int, float]]:
    """The next ``limit`` steps after ``after`` that have a point: step to series number to value.

    Empty where no step after ``after`` has one.
    """
    while after < MAX_STEP and (start := _next_step(session, series_ids, after)) is not None:
        end = min(start + max(limit, BLOCK_STEPS) - 1, MAX_STEP)
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for number, curve in curves(session, series_ids, start, end).items():
            for step, value in curve.pairs():
                found[step][number] = value
        if found:
            return dict(sorted(found.items())[:limit])
        after = end
    return {}


def _next_step(session: Session, series_ids: Sequence[int], after: int) -> int | None:
    """A step after ``after`` before which there is no other point; None where there are no more."""
    row = select(func.min(MetricPoint.step)).where(
        MetricPoint.series_id.in_(series_ids), MetricPoint.step > after
    )
    block = select(func.min(MetricBlock.number)).where(
        MetricBlock.series_id.in_(series_ids), MetricBlock.number >= (after + 1) // BLOCK_STEPS
    )
    step, number = session.execute(select(row.scalar_subquery(), block.scalar_subquery())).one()
    steps = [] if step is None else [step]
    steps += [] if number is None else [max(after + 1, number * BLOCK_STEPS)]
    return min(steps, default=None)
