"""What the demo trains: a job a small model can learn in minutes, and the data for it.

``job.json`` beside this file is the body of the request, apart from the files and the seed.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

TRAINING_ROWS = 400
VALIDATION_ROWS = 32
# Seeds of the draws; the same data whatever the job's seed.
TRAINING_SEED = 1_000
VALIDATION_SEED = 2_000


def job_body() -> dict[str, Any]:
    """The body of the demo's request."""
    return json.loads(Path(__file__).with_name("job.json").read_text())


def write_data(training: Path, validation: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draw items of the grader's task and write both files as JSONL; returns their rows.

    There are only 200 sums of two digits: those to validate with are drawn first, each once, and never
    trained.
    """
    unseen = list(islice(_distinct(_draw(VALIDATION_SEED)), VALIDATION_ROWS))
    taken = {_question(item) for item in unseen}
    rows = list(islice((i for i in _draw(TRAINING_SEED) if _question(i) not in taken), TRAINING_ROWS))
    for path, items in ((training, rows), (validation, unseen)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return rows, unseen


def _draw(seed: int) -> Iterator[dict[str, Any]]:
    import reasoning_gym

    grader = job_body()["method"]["reinforcement"]["grader"]
    # Far more than is taken; items are made when they are asked for.
    task = reasoning_gym.create_dataset(grader["task"], **grader["parameters"], size=100_000, seed=seed)
    for entry in task:
        yield {"messages": [{"role": "user", "content": entry["question"]}], "answer": entry["answer"]}


def _distinct(items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for item in items:
        if (question := _question(item)) not in seen:
            seen.add(question)
            yield item


def _question(item: dict[str, Any]) -> str:
    return item["messages"][-1]["content"]
