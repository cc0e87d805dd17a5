"""Evaluate both modes of a model on the same items, and say whether they differ: `client.evals` of the SDK.

python examples/evals.py --model ft:…
"""

import argparse
import os
import time
from typing import Any

from openai import OpenAI

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
arguments.add_argument("--model", required=True, help="a model with two modes, such as a policy_split job's")
arguments.add_argument("--items", type=int, default=40, help="sums to answer; default 40")
arguments.add_argument("--tokens", type=int, default=32, help="most tokens of an answer; default 32")
arguments.add_argument(
    "--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1")
)
options = arguments.parse_args()

client = OpenAI(base_url=options.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))
items = [
    {"question": f"What is {n} + {2 * n % 7}? Answer with the number alone.", "answer": str(n + 2 * n % 7)}
    for n in range(options.items)
]
made = client.evals.create(
    name="Sums",
    data_source_config={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
    testing_criteria=[
        {
            "type": "string_check",
            "name": "exact",
            "input": "{{sample.output_text}}",
            "reference": "{{item.answer}}",
            "operation": "eq",
        }
    ],
)
runs = []
for model in (options.model, f"{options.model}:high-entropy"):
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": [{"item": item} for item in items]},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{item.question}}"}],
        },
        "sampling_params": {"max_completion_tokens": options.tokens, "seed": 1},
    }
    runs.append(client.evals.runs.create(made.id, data_source=source).id)
for run_id in runs:
    while (run := client.evals.runs.retrieve(run_id, eval_id=made.id)).status in ("queued", "in_progress"):
        time.sleep(0.5)
    counts = run.result_counts
    print(f"{run.model}: {run.status}, {counts.passed} of {counts.total} right, {run.report_url}")
compared: Any = client.get(f"/evals/{made.id}/compare", cast_to=object)  # ours: paired by item
print(*(pair["words"] for pair in compared["pairs"]), sep="\n")
