"""Three jobs in a chain, each from the last one's ft: id: supervised for the format, dpo for the taste, then
policy_split for the reward, on sums that the first two have not shown. ``--jobs reinforcement`` runs the last
alone, and so shows what the other two are good for (benchmarks/chain.py)."""

import argparse
import json
import os
import time
from typing import Any

from openai import OpenAI

JOBS = ["supervised", "dpo", "reinforcement"]
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", default="SmolLM2-135M-Instruct")
parser.add_argument("--steps", type=int, default=20, help="of each job")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="default: all, in this order")
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))

BUDGET = {"steps": chosen.steps}
#: All sums of two one-digit numbers: those to show, and those to learn by trying.
SUMS = [(a, b) for a in range(1, 10) for b in range(1, 10)]
SHOWN = [(a, b) for a, b in SUMS if (a - b) % 3 == 0]
TRIED = [pair for pair in SUMS if pair not in SHOWN]


def question(a: int, b: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {a} + {b}?"}]


def said(a: int, b: int, result: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"{a} + {b} = {result}"}


#: Both modes learn what an answer looks like.
FORMAT = [{"messages": [*question(a, b), said(a, b, a + b)]} for a, b in SHOWN]
#: A right answer is preferred to one that is off by one.
TASTE = [
    {
        "input": {"messages": question(a, b)},
        "preferred_output": [said(a, b, a + b)],
        "non_preferred_output": [said(a, b, a + b + 1)],
    }
    for a, b in SHOWN
]
TASK = [{"messages": question(a, b), "sum": a + b} for a, b in TRIED]
#: 1 where the last number that is said is the sum, in whatever words.
GRADER = {
    "type": "python",
    "source": """
import re

def grade(sample, item):
    numbers = re.findall("[0-9]+", sample["output_text"])
    return float(bool(numbers) and int(numbers[-1]) == item["sum"])
""",
}
#: A checkpoint at the end alone, and not each epoch.
AT_THE_END = {"evaluation": {"interval": 0}}
#: Of each job its rows and its settings.
TRAINED: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "supervised": (
        FORMAT,
        {
            "modes": "both",
            "hyperparameters": {"batch_size": 4, "learning_rate_multiplier": 2.0},
            **AT_THE_END,
        },
    ),
    "dpo": (TASTE, {"hyperparameters": {"batch_size": 4}, **AT_THE_END}),
    "reinforcement": (
        TASK,
        {
            "grader": GRADER,
            "algorithm": {"type": "policy_split"},
            "rollout": {"prompts_per_step": 4, "samples_per_prompt": 8, "max_response_tokens": 16},
            "optimizer": {"learning_rate": 4e-5},
            "checkpoint": {"interval": 0, "select": "last"},
            "preflight": {"on_zero_variance": "warn"},
            "diagnostics": {"interval": 0},
        },
    ),
}


def train(model: str, kind: str, rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """A job from start to end; the result's id."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=(f"{kind}.jsonl", content), purpose="fine-tune")
    method: Any = {"type": kind, kind: {"budget": BUDGET, **settings}}
    job = client.fine_tuning.jobs.create(model=model, training_file=file.id, method=method, seed=chosen.seed)
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"{job.id} {job.status}: {job.error.message if job.error else ''}")
    print(f"{job.id}: {model} → {job.fine_tuned_model}")
    return job.fine_tuned_model


model = chosen.model
for kind in chosen.jobs:
    model = train(model, kind, *TRAINED[kind])
if "reinforcement" in chosen.jobs:
    print(f"both modes of the last one: {model} and {model}:high-entropy")
