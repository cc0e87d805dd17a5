"""Both modes through LiteLLM, which takes the service for any server of OpenAI's format. Needs litellm."""

import argparse
import os

import litellm  # pyright: ignore[reportMissingImports]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--base-url", default=os.environ.get("POLICYSPLIT_BASE_URL", "http://127.0.0.1:8700/v1"))
parser.add_argument("--model", required=True, help="a fine-tuned model: ft:…")
chosen = parser.parse_args()

for model in (chosen.model, f"{chosen.model}:high-entropy"):
    answer = litellm.completion(
        model=f"openai/{model}",
        messages=[{"role": "user", "content": "What is 3 + 4?"}],
        max_tokens=24,
        api_base=chosen.base_url,
        api_key=os.environ.get("POLICYSPLIT_API_KEY", "none"),
    )
    print(f"{model}: {answer.choices[0].message.content!r}")
