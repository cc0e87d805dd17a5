"""Rows of metric series: written by the worker, read by the API."""

import math
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.tables import MetricPoint, MetricSeries
from app.upsert import insert_for


def upsert_points(session: Session, job_id: str, step: int, values: Mapping[str, float]) -> None:
    """Record the metrics of a step. Repeating a step overwrites it: one point for each (series, step).

    Values that are not finite have no point.
    """
    upsert_steps(session, job_id, {step: values})


def upsert_steps(session: Session, job_id: str, steps: Mapping[int, Mapping[str, float]]) -> None:
    """:func:`upsert_points` for several steps at once, in as many statements as for one."""
    found = [
        (name, step, float(value))
        for step, values in steps.items()
        for name, value in values.items()
        if math.isfinite(value)
    ]
    ids = _series_ids(session, job_id, {name for name, _, _ in found})
    rows = [{"series_id": ids[name], "step": step, "value": value} for name, step, value in found]
    if not rows:
        return
    statement = insert_for(session, MetricPoint)
    # One small statement sent many times, by the driver: text with thousands of values takes far longer.
    session.connection().execute(
        statement.on_conflict_do_update(
            index_elements=["series_id", "step"], set_={"value": statement.excluded["value"]}
        ),
        rows,
    )


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


def last_points(session: Session, job_id: str) -> list[tuple[str, int, float]]:
    """Name, last step and value of each of a job's series, by name."""
    # The last step of a series is one look at the end of its key, however long the series is.
    points_again = aliased(MetricPoint)
    last_step = (
        select(func.max(points_again.step))
        .where(points_again.series_id == MetricSeries.id)
        .correlate(MetricSeries)
        .scalar_subquery()
    )
    query = (
        select(MetricSeries.name, MetricPoint.step, MetricPoint.value)
        .join(MetricPoint, (MetricPoint.series_id == MetricSeries.id) & (MetricPoint.step == last_step))
        .where(MetricSeries.job_id == job_id)
        .order_by(MetricSeries.name)
    )
    return list(session.execute(query).all())


def points(session: Session, series_id: int, first: int, last: int) -> list[tuple[int, float]]:
    """(step, value) of a series from step ``first`` to ``last``, in order."""
    query = (
        select(MetricPoint.step, MetricPoint.value)
        .where(MetricPoint.series_id == series_id, MetricPoint.step.between(first, last))
        .order_by(MetricPoint.step)
    )
    return list(session.execute(query).all())


def table(session: Session, series_ids: Sequence[int], after: int, limit: int) -> dict[int, dict[int, float]]:
    """Of the next ``limit`` steps after ``after`` that have a point: step to series number to value."""
    mine = MetricPoint.series_id.in_(series_ids)
    steps = select(MetricPoint.step).where(mine, MetricPoint.step > after).distinct()
    steps = steps.order_by(MetricPoint.step).limit(limit)
    query = select(MetricPoint.step, MetricPoint.series_id, MetricPoint.value).where(
        mine, MetricPoint.step.in_(steps)
    )
    found: dict[int, dict[int, float]] = {}
    for step, series_id, value in session.execute(query.order_by(MetricPoint.step)).all():
        found.setdefault(step, {})[series_id] = value
    return found
