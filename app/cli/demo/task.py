"""What the demo trains: a job a small model can learn in minutes, and the data for it.

``job.json`` beside this file is the body of the request, apart from the files and the seed.
"""

import json
from pathlib import Path
from typing import Any

TRAINING_ROWS = 400
VALIDATION_ROWS = 48
# The two files never share a draw: their seeds differ, whatever the demo's seed.
TRAINING_SEED = 1_000
VALIDATION_SEED = 2_000


def job_body() -> dict[str, Any]:
    """The body of the demo's request."""
    return json.loads(Path(__file__).with_name("job.json").read_text())


def write_rows(path: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """Draw ``rows`` items of the grader's task and write them as JSONL training data."""
    import reasoning_gym

    grader = job_body()["method"]["reinforcement"]["grader"]
    entries = reasoning_gym.create_dataset(grader["task"], **grader["parameters"], size=rows, seed=seed)
    items = [
        {"messages": [{"role": "user", "content": entry["question"]}], "answer": entry["answer"]}
        for entry in entries
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return items
