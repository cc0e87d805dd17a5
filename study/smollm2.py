"""The headline arms on SmolLM2-135M-Instruct: its tasks, settings and runs.

PREREGISTRATION.md says why, and was committed before any of these runs.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from study.planned_run import MODEL, TRAINING, VALIDATION, PlannedRun
from trainer.ablations import load_ablation
from trainer.graders.extraction import extract_answer
from trainer.spec.algorithm import EntropyAdvantage, PolicySplit
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.model import ModelSpec
from trainer.spec.run import DiagnosticsSpec, OptimizerSpec, RolloutSpec, RunSpec
from trainer.statistics.run_results import Plan

#: The project's name for the model, and its folder among the models that were pulled.
BASE = "SmolLM2-135M-Instruct"
#: By task, parameters of reasoning-gym's.
TASKS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "count_bits": {"min_n": 1, "max_n": 400},
}
ARMS = ("policy_split", "grpo", "grpo_2x", "entropy_advantage", "prompt_only")
SEEDS = [0, 1, 2]
STEPS = 24
DEV_ITEMS, TEST_ITEMS, TRAINING_ITEMS = 16, 48, 400
LEARNING_RATE = 4e-5
#: Of the draw of a task's items; far more are drawn from than are taken.
_DRAW_SEED, _DRAWN = 1000, 20_000


def planned_runs() -> list[PlannedRun]:
    """All runs in the order in which they are done: all arms of a seed together."""
    return [planned_run(task, arm, seed) for seed in SEEDS for task in TASKS for arm in ARMS]


def planned_run(task: str, arm: str, seed: int) -> PlannedRun:
    """One arm on one task with one seed."""
    base = RunSpec(
        run_id=f"smollm2-{task}",
        model=ModelSpec(path=MODEL, dtype="float32"),
        training_data=JsonlData(path=TRAINING),
        validation_data=JsonlData(path=VALIDATION),
        grader=None,
        algorithm=PolicySplit(),
        rollout=RolloutSpec(prompts_per_step=4, samples_per_prompt=8, max_response_tokens=24),
        optimizer=OptimizerSpec(learning_rate=LEARNING_RATE),
        evaluation=EvaluationSpec(
            max_items=DEV_ITEMS + TEST_ITEMS, samples_per_item=8, token_metric_samples=2
        ),
        diagnostics=DiagnosticsSpec(interval=8),
        total_steps=STEPS,
        seed=seed,
    )
    if arm == "entropy_advantage":
        spec = base.model_copy(update={"algorithm": EntropyAdvantage()})
    else:
        spec = load_ablation(arm, STEPS).run_spec(base)
    return PlannedRun.of("smollm2", task, arm, seed, spec)


def analysis_plan() -> Plan:
    """What is compared with what, as pre-registered."""
    return Plan(
        arms=list(ARMS),
        tasks=list(TASKS),
        seeds=SEEDS,
        metric="accuracy",
        mode="N",
        dev_items=DEV_ITEMS,
        method="policy_split",
        baselines=["grpo", "grpo_2x", "entropy_advantage"],
        controls={"grpo_2x": "grpo_2x", "prompt_only": "prompt_only"},
    )


def pull_base_model(folder: Path) -> None:
    """The model into ``folder``, beside the project's data: who has pulled it does not do so again."""
    if not folder.exists():
        from trainer.model.pull import pull

        folder.parent.mkdir(parents=True, exist_ok=True)
        pulled = pull(BASE, folder.parents[2] / "models")
        folder.symlink_to(os.path.relpath(pulled, folder.parent))


def split_items(task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and validation items, always the same, no question in both."""
    items = _distinct(task)
    validation = list(islice(items, DEV_ITEMS + TEST_ITEMS))
    return list(islice(items, TRAINING_ITEMS)), validation


def _distinct(task: str) -> Iterator[dict[str, Any]]:
    import reasoning_gym

    seen: set[str] = set()
    for entry in reasoning_gym.create_dataset(task, **TASKS[task], size=_DRAWN, seed=_DRAW_SEED):
        question = entry["question"]
        if question not in seen:
            seen.add(question)
            yield {"messages": [{"role": "user", "content": question}], "answer": entry["answer"]}


def reward_of(_task: str) -> Callable[[dict[str, Any], str], float]:
    """1 where the last number of the response is the answer: all tasks ask for one number."""
    return lambda item, text: float(extract_answer(text, "last_number") == item["answer"])
