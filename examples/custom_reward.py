"""A run with a reward function of your own: no service, one call."""

import argparse
import json
import tempfile
from pathlib import Path

from trainer.api import train
from trainer.spec.data import JsonlData
from trainer.spec.events import Event, StepMetrics
from trainer.spec.model import ModelSpec
from trainer.spec.run import RolloutSpec, RunSpec


def short_and_right(item: dict, text: str) -> float:
    """From 0 to 1; ``item`` is the row of the data. An exception leaves the response out of training."""
    return float(item["answer"] in text) / (1 + len(text) / 100)


def show(event: Event) -> None:
    """Events come as they are written; metrics have one for each step."""
    if isinstance(event, StepMetrics) and event.step:
        rewards = [event.values.get(f"train/{mode}/reward") for mode in "NH"]
        print(f"step {event.step}: rewards of both modes {rewards}")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="a folder in Hugging Face format")
parser.add_argument("--steps", type=int, default=20)
chosen = parser.parse_args()

folder = Path(tempfile.mkdtemp())
rows = [
    {"messages": [{"role": "user", "content": f"What is {a} + {b}?"}], "answer": str(a + b)}
    for a in range(1, 5)
    for b in range(1, 6)
]
(folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
spec = RunSpec(
    run_id="custom-reward",
    model=ModelSpec(path=chosen.model),
    training_data=JsonlData(path=str(folder / "rows.jsonl")),
    grader=None,
    rollout=RolloutSpec(prompts_per_step=4, samples_per_prompt=8, max_response_tokens=24),
    total_steps=chosen.steps,
)
result = train(spec, folder / "run", reward=short_and_right, on_event=show)
print(f"finished: {result.finished}, checkpoint: {result.checkpoint}")
