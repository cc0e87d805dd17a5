"""A judge model grades one answer, as it would in a job.

The operator says where the judge is, with the service's setting
``POLICYSPLIT_GRADER_ENDPOINTS='{"default": {"url": "https://host/v1", "key_env": "VARIABLE"}}'``:
a job has no keys.
"""

import argparse
import os

from openai import OpenAI

parser = argparse.ArgumentParser(description="A judge model grades one answer.")
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--judge", required=True, help="the judge's name at its endpoint")
chosen = parser.parse_args()
client = OpenAI(base_url=chosen.base_url, api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"))

result = client.fine_tuning.alpha.graders.run(
    grader={
        "type": "score_model",
        "name": "kindness",
        "model": chosen.judge,
        "range": [0, 10],
        "input": [
            {"role": "developer", "content": "Score from 0 to 10 how kind the reply to the question is."},
            {"role": "user", "content": "Question: {{item.question}}\nReply: {{sample.output_text}}"},
        ],
    },
    item={"question": "I broke your cup."},
    model_sample="Never mind, it was an old one. Did you cut yourself?",
)
if any(value for name, value in result.metadata.errors.to_dict().items() if name.endswith("_error")):
    raise SystemExit(f"the judge gave no score: {result.metadata.to_dict()}")
print(f"reward {result.reward}, of a score in 0 to 10")
