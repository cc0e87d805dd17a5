"""The best of n answers, drawn in turn from both modes: exploration at inference, paid for by a grader."""

import argparse
import os

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", required=True, help="a fine-tuned model: ft:…")
parser.add_argument("--tokens", type=int, default=24)
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))

grader = {
    "type": "string_check",
    "name": "has the answer",
    "input": "{{sample.output_text}}",
    "operation": "like",
    "reference": "{{item.answer}}",
}
answer = client.chat.completions.create(
    model=chosen.model,
    messages=[{"role": "user", "content": "What is 3 + 4?"}],
    n=8,
    max_tokens=chosen.tokens,
    extra_body={
        "mode": "mixed",
        "best_of_n": {"grader": grader, "item": {"answer": "7"}, "keep": 2},
    },
)
for choice in answer.choices:
    ours = choice.model_extra or {}
    print(f"{ours['mode']}, reward {ours['reward']}: {choice.message.content!r}")
