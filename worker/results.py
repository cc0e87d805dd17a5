"""A finished job's result file: its metrics as CSV, one row a step."""

import csv
import io

from sqlalchemy import select

from app.db import read_session
from app.files.storage import StoredFile, store
from app.tables import MetricPoint, MetricSeries
from worker.metrics_event import SCALARS, scalars

FILENAME = "step_metrics.csv"


def store_results(job_id: str) -> StoredFile:
    """Write the job's result CSV to storage; its row is for the transaction that ends the job."""
    return store(render_csv(job_id))


def render_csv(job_id: str) -> bytes:
    """Steps in order; OpenAI's columns first, then every metric by the trainer's name.

    A value that a step does not have is an empty cell.
    """
    names, rows = _points(job_id)
    columns = sorted(names)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *SCALARS, *columns])
    for step in sorted(rows):
        # The writer leaves a cell empty for None.
        top = scalars(rows[step])
        writer.writerow([step, *(top[name] for name in SCALARS), *(rows[step].get(name) for name in columns)])
    return text.getvalue().encode()


def _points(job_id: str) -> tuple[set[str], dict[int, dict[str, float]]]:
    with read_session() as session:
        query = select(MetricSeries.id, MetricSeries.name).where(MetricSeries.job_id == job_id)
        series = dict(session.execute(query).all())
        rows: dict[int, dict[str, float]] = {}
        points = select(MetricPoint.series_id, MetricPoint.step, MetricPoint.value).where(
            MetricPoint.series_id.in_(select(MetricSeries.id).where(MetricSeries.job_id == job_id))
        )
        for series_id, step, value in session.execute(points):
            rows.setdefault(step, {})[series[series_id]] = value
    return set(series.values()), rows
