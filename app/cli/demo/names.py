"""Name an animal, a colour, a tool: questions with many right answers, and the demo wants different ones.

``names.txt`` has a kind of thing and its names a line; ``names.json`` is the body of the request, apart from
the grader's source (``names_grader.py``), the files and the seed.
"""

import json
import random
from pathlib import Path
from typing import Any

from app.cli.demo import names_grader

HERE = Path(__file__).parent
VALIDATION_ROWS = 8
# Of the draw; the same rows whatever the job's seed.
SEED = 7
# Before each question, or a model so small would need most of the training to learn the form of an answer.
BEFORE = [
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "Name a planet."},
    {"role": "assistant", "content": "Mars"},
    {"role": "user", "content": "Name a shape."},
    {"role": "assistant", "content": "Circle"},
]


def job_body() -> dict[str, Any]:
    """The body of the request."""
    body = json.loads((HERE / "names.json").read_text())
    source = Path(names_grader.__file__).read_text()
    body["method"]["reinforcement"]["grader"]["source"] = source
    return body


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """To train on, and to validate with: kinds of things that are never trained."""
    items = [_item(line) for line in (HERE / "names.txt").read_text().splitlines()]
    random.Random(SEED).shuffle(items)
    return items[VALIDATION_ROWS:], items[:VALIDATION_ROWS]


def judge(item: dict[str, Any], text: str) -> tuple[bool, str | None]:
    """Whether a response is right, and what it answers, as the job's grader has it."""
    sample = {"output_text": text}
    return names_grader.grade(sample, item) == 1.0, names_grader.answer(sample, item)


def expected(item: dict[str, Any]) -> str:
    """What would be right, shortened."""
    names = item["names"]
    return f"{', '.join(names[:3])} or {len(names) - 3} others"


def _item(line: str) -> dict[str, Any]:
    kind, _, names = line.partition(": ")
    asked = {"role": "user", "content": f"Name {kind}."}
    return {"messages": [*BEFORE, asked], "names": names.split(", ")}
