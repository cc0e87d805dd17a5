"""An algorithm of your own: override what it decides, and the loop does the rest.

This one trains on the best response of each prompt alone. In this process it stands in the place of ``grpo``;
to have a type and options of its own, it takes what CONTRIBUTING.md lists.
"""

import argparse
import json
import tempfile
from pathlib import Path

from torch import Tensor

from trainer.algorithms import ALGORITHMS, GrpoAlgorithm
from trainer.api import train
from trainer.spec.algorithm import Grpo
from trainer.spec.data import JsonlData
from trainer.spec.model import ModelSpec
from trainer.spec.run import RolloutSpec, RunSpec


class BestAlone(GrpoAlgorithm):
    """The best response is pulled up; nothing is pushed down."""

    def advantage(self, rewards_G: Tensor) -> Tensor:
        """1 for the best responses of a group whose rewards differ, else 0; shape (G,)."""
        graded_G = rewards_G.nan_to_num(nan=-1.0)
        best_G = (graded_G == graded_G.max()).to(rewards_G)
        return best_G if bool((best_G == 0).any()) else 0 * best_G


parser = argparse.ArgumentParser(description="An algorithm of your own")
parser.add_argument("--model", required=True, help="a folder in Hugging Face format")
parser.add_argument("--steps", type=int, default=20)
chosen = parser.parse_args()

ALGORITHMS["grpo"] = BestAlone
folder = Path(tempfile.mkdtemp())
rows = [
    {"messages": [{"role": "user", "content": f"Say {letter}."}], "letter": letter} for letter in "abcdefgh"
]
(folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
spec = RunSpec(
    run_id="own-algorithm",
    model=ModelSpec(path=chosen.model),
    training_data=JsonlData(path=str(folder / "rows.jsonl")),
    grader=None,
    algorithm=Grpo(),
    rollout=RolloutSpec(prompts_per_step=4, samples_per_prompt=8, max_response_tokens=24),
    total_steps=chosen.steps,
)


def letter_and_short(item: dict, text: str) -> float:
    """From 0 to 1."""
    return float(item["letter"] in text) / (1 + len(text) / 100)


result = train(spec, folder / "run", reward=letter_and_short)
print(f"trained with {BestAlone.__name__}: {result.step} steps, checkpoint: {result.checkpoint}")
