"""A finished job's result file: its metrics as CSV, one row per step."""

import csv
import io

from app.core.db import read_session
from app.files.storage import StoredFile, store
from app.series.repository import curves_of_job
from worker.jobs.metrics_event import scalar_names, scalars

FILENAME = "step_metrics.csv"


def store_results(job_id: str, result_step: int | None, reason: str | None) -> StoredFile:
    """Write the job's result CSV to storage; its row is for the transaction that ends the job."""
    return store(render_csv(job_id, result_step, reason))


def render_csv(job_id: str, result_step: int | None, reason: str | None) -> bytes:
    """Steps in order; OpenAI's columns first, ``result``, then every metric by the trainer's name.

    A value that a step does not have is an empty cell. ``result`` has the ``reason`` at ``result_step``,
    whose checkpoint is the job's result.
    """
    names, rows = _points(job_id)
    columns, first = sorted(names), scalar_names(names)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *first, "result", *columns])
    for step in sorted(rows):
        # The writer leaves a cell empty for None.
        top = scalars(rows[step])
        chosen = reason if step == result_step else None
        cells = (rows[step].get(name) for name in columns)
        writer.writerow([step, *(top.get(name) for name in first), chosen, *cells])
    return text.getvalue().encode()


def _points(job_id: str) -> tuple[set[str], dict[int, dict[str, float]]]:
    with read_session() as session:
        curves = curves_of_job(session, job_id)
    rows: dict[int, dict[str, float]] = {}
    for name, curve in curves.items():
        for step, value in curve.pairs():
            rows.setdefault(step, {})[name] = value
    return set(curves), rows
