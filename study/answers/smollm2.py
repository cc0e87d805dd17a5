"""The headline arms of the study of exploration by answers, on SmolLM2-135M-Instruct.

PREREGISTRATION-smollm2.md says why, and was committed before any of these runs. The task is the demo's: a
whole number from a range, with ranges of several widths.
"""

import random
from typing import Any

from app.cli.demo import numbers, numbers_grader
from study.answers.design import PAIRS, VARIETY, with_arm
from study.planned_run import MODEL, TRAINING, VALIDATION, PlannedRun
from study.smollm2 import LEARNING_RATE
from trainer.spec.algorithm import PolicySplit
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.model import ModelSpec
from trainer.spec.run import DiagnosticsSpec, OptimizerSpec, RolloutSpec, RunSpec
from trainer.statistics.run_results import Plan

NAME = "answers-smollm2"
TASK = "numbers"
#: The claim's arms first.
ARMS = (PAIRS[0].two_modes, PAIRS[0].one_mode, "lambda_0-both", "grpo")
SEEDS = [0, 1, 2, 3, 4]
STEPS = 30
DEV_ITEMS, TEST_ITEMS, TRAINING_ITEMS = 16, 48, 400
ETA = 0.3
_LOWEST, _HIGHEST, _WIDTHS = 10, 99, range(12, 31)
_DRAW_SEED = 1000


class NumberReward:
    """1 for a number of the range alone, a tenth for another number alone; and which number was answered."""

    def __call__(self, item: dict[str, Any], text: str) -> float:
        return numbers_grader.grade({"output_text": text}, item)

    def answer(self, item: dict[str, Any], text: str) -> str | None:
        """The number, whatever stands around it; none where there are two."""
        return numbers_grader.answer({"output_text": text}, item)


def planned_runs() -> list[PlannedRun]:
    """All runs in the order in which they are done: all arms of a seed together."""
    return [planned_run(arm, seed) for seed in SEEDS for arm in ARMS]


def planned_run(arm: str, seed: int) -> PlannedRun:
    """One arm with one seed."""
    base = RunSpec(
        run_id=f"{NAME}-{TASK}",
        model=ModelSpec(path=MODEL, dtype="float32"),
        training_data=JsonlData(path=TRAINING),
        validation_data=JsonlData(path=VALIDATION),
        grader=None,
        algorithm=PolicySplit(),
        rollout=RolloutSpec(prompts_per_step=6, samples_per_prompt=8, max_response_tokens=6),
        optimizer=OptimizerSpec(learning_rate=LEARNING_RATE),
        evaluation=EvaluationSpec(
            interval=0, max_items=DEV_ITEMS + TEST_ITEMS, samples_per_item=8, token_metric_samples=1
        ),
        diagnostics=DiagnosticsSpec(interval=0, divergence_stride=0),
        total_steps=STEPS,
        seed=seed,
    )
    return PlannedRun.of(NAME, TASK, arm, seed, _with_arm(base, arm))


def _with_arm(base: RunSpec, arm: str) -> RunSpec:
    """As on the small model, but for the two modes' η."""
    spec = with_arm(base, arm)
    if not isinstance(spec.algorithm, PolicySplit):
        return spec
    return spec.model_copy(update={"algorithm": spec.algorithm.model_copy(update={"eta": ETA})})


def analysis_plan() -> Plan:
    """What is compared with what, as pre-registered: the claim's arm with every other."""
    return Plan(
        arms=list(ARMS),
        tasks=[TASK],
        seeds=SEEDS,
        metric=VARIETY.metric,
        mode=VARIETY.mode,
        dev_items=DEV_ITEMS,
        method=PAIRS[0].two_modes,
        baselines=[PAIRS[0].one_mode],
    )


def split_items(_task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and validation items, always the same, no range in both."""
    ranges = [
        (low, low + width) for low in range(_LOWEST, _HIGHEST) for width in _WIDTHS if low + width <= _HIGHEST
    ]
    random.Random(_DRAW_SEED).shuffle(ranges)
    items = [numbers.row(*each) for each in ranges[: DEV_ITEMS + TEST_ITEMS + TRAINING_ITEMS]]
    return items[DEV_ITEMS + TEST_ITEMS :], items[: DEV_ITEMS + TEST_ITEMS]
