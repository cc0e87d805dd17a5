"""Fewer points that show the same curve: the extremes stay. The database thins, so only what stays is moved.

The first and the last point of a range stay. The steps between are divided into buckets of equal width, and
of each bucket the smallest and the largest value stay (of equal ones the earliest), so that no spike and no
dip is lost.
"""

from typing import Any

from sqlalchemy import BigInteger, bindparam, cast, func, literal_column, select, union
from sqlalchemy.orm import Session

from app.tables import MetricPoint

Point = tuple[int, float]


def extent(session: Session, series_id: int, first: int, last: int) -> tuple[int, int, int]:
    """How many points a series has from step ``first`` to ``last``, and the steps of the outermost."""
    step = MetricPoint.step
    query = select(func.count(), func.min(step), func.max(step)).where(
        MetricPoint.series_id == series_id, step.between(first, last)
    )
    count, lowest, highest = session.execute(query).one()
    return count, lowest, highest


def thinned(session: Session, series_id: int, lowest: int, highest: int, most: int) -> list[Point]:
    """At most ``most`` (at least 4) points from ``lowest`` to ``highest``, steps that have points."""
    values = {
        "series_id": series_id,
        "lowest": lowest,
        "highest": highest,
        "buckets": (most - 2) // 2,
        "width": highest - lowest - 1,
    }
    return [(row.step, row.value) for row in session.execute(_THINNED, values)]


def _thinned() -> Any:
    series, lowest, buckets = bindparam("series_id"), bindparam("lowest"), bindparam("buckets")
    number = select(cast(literal_column("0"), BigInteger).label("n")).cte("bucket", recursive=True)
    number = number.union_all(select(number.c.n + 1).where(number.c.n + 1 < cast(buckets, BigInteger)))

    def edge(n: Any) -> Any:
        width = bindparam("width", type_=BigInteger)
        return cast(lowest, BigInteger) + 1 + (n * width) // cast(buckets, BigInteger)

    def extreme(order: Any) -> Any:
        inside = (
            MetricPoint.series_id == series,
            MetricPoint.step >= edge(number.c.n),
            MetricPoint.step < edge(number.c.n + 1),
        )
        found = select(MetricPoint.step).where(*inside).order_by(order, MetricPoint.step).limit(1)
        return select(found.correlate(number).scalar_subquery()).select_from(number)

    kept = union(
        extreme(MetricPoint.value),
        extreme(MetricPoint.value.desc()),
        select(cast(lowest, BigInteger)),
        select(cast(bindparam("highest"), BigInteger)),
    )
    return (
        select(MetricPoint.step, MetricPoint.value)
        .where(MetricPoint.series_id == series, MetricPoint.step.in_(kept))
        .order_by(MetricPoint.step)
    )


_THINNED = _thinned()
