"""Is the method better than GRPO here? Both with several seeds, each run a job, and a verdict in the end."""

import argparse
import os
import time
from typing import Any

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", default="SmolLM2-135M-Instruct")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--items", type=int, default=64, help="validation items that decide")
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))

task = {
    "name": "sums",
    "environment": {
        "type": "environment",
        "task": "chain_sum",
        "parameters": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    },
    "reinforcement": {"grader": {"type": "environment", "task": "chain_sum", "extract": "last_number"}},
}
experiment: Any = client.post(
    "/experiments",
    cast_to=object,
    body={
        "name": "Does the method help on sums?",
        "model": chosen.model,
        "arms": ["policy_split", "grpo"],
        "compare": {"against": "grpo"},
        "seeds": list(range(chosen.seeds)),
        "split": {"dev": 8, "test": chosen.items},
        "budget": {"steps": chosen.steps},
        "reinforcement": {
            "rollout": {"prompts_per_step": 4, "samples_per_prompt": 8, "max_response_tokens": 24},
            "evaluation": {"samples_per_item": 2},
            "preflight": {"on_zero_variance": "warn"},
            "diagnostics": {"interval": 0},
        },
        "tasks": [task],
    },
)
while experiment["status"] not in ("completed", "cancelled", "out_of_budget"):
    time.sleep(1)
    experiment = client.get(f"/experiments/{experiment['id']}", cast_to=object)
report: Any = client.get(f"/experiments/{experiment['id']}/report", cast_to=object)
print(report["winner"]["sentence"])
