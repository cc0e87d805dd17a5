"""Three jobs in a chain, each from the last one's ft: id: supervised for the format, dpo for the taste, then
policy_split for the reward."""

import argparse
import json
import os
import time
from typing import Any

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", default="SmolLM2-135M-Instruct")
parser.add_argument("--steps", type=int, default=20, help="of each job")
parser.add_argument("--seed", type=int, default=0)
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))

SUMS = [(a, b) for a in range(1, 9) for b in range(1, 9)]
BUDGET = {"steps": chosen.steps}


def question(a: int, b: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {a} + {b}?"}]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


#: Both modes learn what an answer looks like: a sum, and the result in a box.
FORMAT = [{"messages": [*question(a, b), answer(f"{a} + {b} = \\boxed{{{a + b}}}")]} for a, b in SUMS]
#: A right answer is preferred to one that is off by one.
TASTE = [
    {
        "input": {"messages": question(a, b)},
        "preferred_output": [answer(f"{a} + {b} = \\boxed{{{a + b}}}")],
        "non_preferred_output": [answer(f"{a} + {b} = \\boxed{{{a + b + 1}}}")],
    }
    for a, b in SUMS
]
TASK = [{"messages": question(a, b), "boxed": f"\\boxed{{{a + b}}}"} for a, b in SUMS]
GRADER = {
    "type": "string_check",
    "name": "has the answer in a box",
    "input": "{{sample.output_text}}",
    "operation": "like",
    "reference": "{{item.boxed}}",
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


first = train(chosen.model, "supervised", FORMAT, {"modes": "both", "hyperparameters": {"batch_size": 8}})
second = train(first, "dpo", TASTE, {"hyperparameters": {"batch_size": 8}})
last = train(
    second,
    "reinforcement",
    TASK,
    {
        "grader": GRADER,
        "algorithm": {"type": "policy_split"},
        "rollout": {"prompts_per_step": 4, "samples_per_prompt": 8, "max_response_tokens": 24},
        "preflight": {"on_zero_variance": "warn"},
        "diagnostics": {"interval": 0},
    },
)
print(f"both modes of the last one: {last} and {last}:high-entropy")
