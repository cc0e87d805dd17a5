"""What can be asked about a job's metrics."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from app.core.db import read_session
from app.jobs.service import found
from app.series import repository
from app.series.blocks import EMPTY, Curve
from app.series.downsampling import thinned

_ROWS_A_CHUNK = 500


def names(project_id: str, job_id: str) -> list[dict[str, object]]:
    """Every series of a job with its last point."""
    with read_session() as session:
        found(session, project_id, job_id)
        return [
            {
                "object": "fine_tuning.job.metric_series",
                "name": name,
                "last_step": step,
                "last_value": value,
            }
            for name, step, value in repository.last_points(session, job_id)
        ]


def series(
    project_id: str, job_id: str, wanted: Sequence[str], *, first: int, last: int, max_points: int
) -> list[dict[str, object]]:
    """The points of the named series; one that has none yet is empty."""
    return [
        {
            "object": "fine_tuning.job.metric_series",
            "name": name,
            "points": [{"step": step, "value": value} for step, value in curve.pairs()],
            "total_points": total,
            "downsampled": total > max_points,
        }
        for name, (total, curve) in _shown(project_id, job_id, wanted, first, last, max_points).items()
    ]


def columns(
    project_id: str, job_id: str, wanted: Sequence[str], *, first: int, last: int, max_points: int
) -> str:
    """The list of :func:`series` as JSON with ``steps`` and ``values`` in place of ``points``.

    A page with many charts reads it in a fraction of the time.
    """
    data = [
        {
            "object": "fine_tuning.job.metric_series",
            "name": name,
            "steps": curve.steps.tolist(),
            "values": curve.values.tolist(),
            "total_points": total,
            "downsampled": total > max_points,
        }
        for name, (total, curve) in _shown(project_id, job_id, wanted, first, last, max_points).items()
    ]
    return json.dumps({"object": "list", "data": data}, ensure_ascii=False, separators=(",", ":"))


def _shown(
    project_id: str, job_id: str, wanted: Sequence[str], first: int, last: int, most: int
) -> dict[str, tuple[int, Curve]]:
    """How many points each of the named series has, and those that are shown."""
    with read_session() as session:
        found(session, project_id, job_id)
        numbers = {name: number for number, name in repository.series(session, job_id) if name in wanted}
        curves = repository.curves(session, list(numbers.values()), first, last)
    shown = {}
    for name in dict.fromkeys(wanted):
        curve = curves[numbers[name]] if name in numbers else EMPTY
        shown[name] = (len(curve.steps), thinned(curve, most))
    return shown


def csv_lines(project_id: str, job_id: str, wanted: Sequence[str]) -> Iterator[str]:
    """A table of all steps, one column a series. Raises before the first line is asked for."""
    with read_session() as session:
        found(session, project_id, job_id)
        columns = [one for one in repository.series(session, job_id) if not wanted or one[1] in wanted]
    return _csv_lines(columns)


def _csv_lines(columns: list[tuple[int, str]]) -> Iterator[str]:
    yield _csv_line(["step", *(name for _, name in columns)])
    numbers = [number for number, _ in columns]
    step = -1
    while True:
        # A transaction a chunk: none stays open while a client reads slowly.
        with read_session() as session:
            rows = repository.table(session, numbers, step, _ROWS_A_CHUNK)
        if not rows:
            return
        yield "".join(
            _csv_line([at, *(row.get(number, "") for number in numbers)]) for at, row in rows.items()
        )
        step = max(rows)


def _csv_line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
