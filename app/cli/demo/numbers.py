"""Pick a number from a range: a question with 21 right answers, and the demo wants different ones.

``numbers.json`` is the body of the request, apart from the grader's source (``numbers_grader.py``), the files
and the seed.
"""

import json
import random
from pathlib import Path

from app.cli.demo import numbers_grader
from app.cli.demo.rows import Body, Row

HERE = Path(__file__).parent
LOWEST, HIGHEST, WIDTH = 10, 79, 20
VALIDATION_ROWS = 8
# Of the draw; the same rows whatever the job's seed.
SEED = 7
# Before each question, or a model so small would need most of the training to learn the form of an answer.
BEFORE = [
    {"role": "user", "content": "Pick a whole number between 3 and 8. Answer with the number only."},
    {"role": "assistant", "content": "5"},
]


def job_body() -> Body:
    """The body of the request."""
    body = json.loads((HERE / "numbers.json").read_text())
    source = Path(numbers_grader.__file__).read_text()
    body["method"]["reinforcement"]["grader"]["source"] = source
    return body


def rows() -> tuple[list[Row], list[Row]]:
    """To train on, and to validate with: ranges that are never trained."""
    items = [row(low, low + WIDTH) for low in range(LOWEST, HIGHEST + 1)]
    random.Random(SEED).shuffle(items)
    return items[VALIDATION_ROWS:], items[:VALIDATION_ROWS]


def judge(item: Row, text: str) -> tuple[bool, str | None]:
    """Whether a response is right, and what it answers, as the job's grader has it."""
    sample = {"output_text": text}
    return numbers_grader.grade(sample, item) == 1.0, numbers_grader.answer(sample, item)


def expected(item: Row) -> str:
    """What would be right."""
    return f"{item['low']} to {item['high']}"


def row(low: int, high: int) -> Row:
    """The question for a number of a range, with what the grader reads."""
    asked = f"Pick a whole number between {low} and {high}. Answer with the number only."
    return {"messages": [*BEFORE, {"role": "user", "content": asked}], "low": low, "high": high}
