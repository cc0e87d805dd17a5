"""One-digit sums: a question has one right answer, and the modes differ in how sure they are of it.

``sums.json`` beside this file is the body of the request, apart from the files and the seed.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from app.cli.demo.rows import Body, Row

TRAINING_ROWS = 400
VALIDATION_ROWS = 32
# Seeds of the draws; the same data whatever the job's seed.
TRAINING_SEED = 1_000
VALIDATION_SEED = 2_000
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def job_body() -> Body:
    """The body of the request."""
    return json.loads(Path(__file__).with_name("sums.json").read_text())


def rows() -> tuple[list[Row], list[Row]]:
    """To train on, and to validate with: items of the grader's task.

    There are only 200 sums of two digits: those to validate with are drawn first, each once, and never
    trained.
    """
    unseen = list(islice(_distinct(_draw(VALIDATION_SEED)), VALIDATION_ROWS))
    taken = {_question(item) for item in unseen}
    return list(islice((i for i in _draw(TRAINING_SEED) if _question(i) not in taken), TRAINING_ROWS)), unseen


def judge(item: Row, text: str) -> tuple[bool, str | None]:
    """Whether a response is right, and its last number, which is what it answers."""
    numbers = NUMBER.findall(text)
    return bool(numbers) and float(numbers[-1]) == float(item["answer"]), numbers[-1] if numbers else None


def expected(item: Row) -> str:
    """The sum."""
    return item["answer"]


def _draw(seed: int) -> Iterator[Row]:
    import reasoning_gym

    grader = job_body()["method"]["reinforcement"]["grader"]
    # Far more than is taken; items are made when they are asked for.
    task = reasoning_gym.create_dataset(grader["task"], **grader["parameters"], size=100_000, seed=seed)
    for entry in task:
        yield {"messages": [{"role": "user", "content": entry["question"]}], "answer": entry["answer"]}


def _distinct(items: Iterator[Row]) -> Iterator[Row]:
    seen: set[str] = set()
    for item in items:
        if (question := _question(item)) not in seen:
            seen.add(question)
            yield item


def _question(item: Row) -> str:
    return item["messages"][-1]["content"]
