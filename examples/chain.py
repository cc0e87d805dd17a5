"""Two jobs in a chain: the second one trains on from the first one's result, by its ft: id."""

import argparse
import json
import os
import time

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", default="SmolLM2-135M-Instruct")
parser.add_argument("--steps", type=int, default=20, help="of each job")
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))


def rows(numbers: range) -> bytes:
    """Sums, one a line."""
    sums = [(a, b) for a in numbers for b in range(1, 6)]
    lines = [
        {"messages": [{"role": "user", "content": f"What is {a} + {b}?"}], "answer": str(a + b)}
        for a, b in sums
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def train(model: str, data: bytes, sharing: str) -> str:
    """A job from start to end; the result's id."""
    file = client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    grader = {
        "type": "string_check",
        "name": "has the answer",
        "input": "{{sample.output_text}}",
        "operation": "like",
        "reference": "{{item.answer}}",
    }
    reinforcement = {
        "grader": grader,
        "algorithm": {"type": "policy_split", "eta": 0.5, "kappa": 1.2, "sharing": sharing},
        "rollout": {"prompts_per_step": 4, "samples_per_prompt": 8, "max_response_tokens": 24},
        "preflight": {"on_zero_variance": "warn"},
        "diagnostics": {"interval": 0},
        "budget": {"steps": chosen.steps},
    }
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        method={"type": "reinforcement", "reinforcement": reinforcement},  # type: ignore[typeddict-item]
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"{job.id} {job.status}: {job.error.message if job.error else ''}")
    print(f"{job.id}: {model} → {job.fine_tuned_model}")
    return job.fine_tuned_model


first = train(chosen.model, rows(range(1, 3)), "both")
second = train(first, rows(range(3, 5)), "none_pooled")
print(f"both modes of the last one: {second} and {second}:high-entropy")
