"""What the demo can train: jobs that a small model learns in minutes, and their data."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.cli.demo import numbers, sums
from app.cli.demo.rows import Body, Row


@dataclass(frozen=True)
class Task:
    """A job, and what is asked of its model afterwards."""

    job_body: Callable[[], Body]
    """The body of the request, apart from the files and the seed."""
    rows: Callable[[], tuple[list[Row], list[Row]]]
    """To train on, and to validate with; no question is in both."""
    judge: Callable[[Row, str], tuple[bool, str | None]]
    """Whether a response to a row is right, and what it answers, in a form that equal answers share."""
    expected: Callable[[Row], str]
    """What would be right, for people."""
    samples: int
    """How often each mode is asked the same question at the end."""

    def write_data(self, training: Path, validation: Path) -> tuple[list[Row], list[Row]]:
        """Write both files as JSONL; returns their rows."""
        found = self.rows()
        for path, items in zip((training, validation), found, strict=True):
            _write(path, items)
        return found


def _write(path: Path, items: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


TASKS = {
    "numbers": Task(numbers.job_body, numbers.rows, numbers.judge, numbers.expected, samples=16),
    "sums": Task(sums.job_body, sums.rows, sums.judge, sums.expected, samples=4),
}
