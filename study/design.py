"""The arms, seeds, tasks and settings of the study on the small model: all runs there are.

PREREGISTRATION.md says why, and was committed before any of these runs.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from study.base_model import HIGH_ENTROPY_PROMPT, NEUTRAL_PROMPT
from study.planned_run import MODEL, TRAINING, VALIDATION, PlannedRun
from study.tasks import TASKS, VALIDATION_ITEMS
from trainer.ablations import load_ablation
from trainer.spec.algorithm import AlgorithmSpec, PolicySplit
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.model import ModelSpec
from trainer.spec.run import DiagnosticsSpec, OptimizerSpec, RolloutSpec, RunSpec
from trainer.statistics.run_results import Plan

STEPS = 100
SEEDS = [0, 1, 2, 3, 4]
DEV_ITEMS = 32
#: One of them is chosen for all arms with ``TUNED_ARM`` on the dev items (``chosen_learning_rate``).
LEARNING_RATES = [3e-4, 1e-3, 3e-3]
TUNED_ARM, TUNING_SEED = "grpo", 1000
#: Section 3 of the design notes: each is the run that is compared with some settings laid over it.
ABLATIONS = (
    *("policy_split", "grpo", "grpo_2x", "single_entropy", "prompt_only", "freeze_loss@50%"),
    *("freeze_full@50%", "hidden_freeze@50%", "no_prompt", "neutral_prompt", "no_share", "no_share_pool"),
    *("h_to_n", "n_to_h", "prompt_inference", "no_kl", "eta_normal_plus", "eta_normal_minus"),
    *("clip_order_outside", "cross_importance_truncated"),
)
#: Section 2: each with the defaults of its paper. ``grpo`` is above.
BASELINES = (
    *("dr_grpo", "dapo", "gspo", "cispo", "entropy_bonus", "adaptive_entropy", "entropy_advantage"),
    *("clip_cov", "kl_cov", "forking_tokens", "edge_grpo"),
)
#: The bonus ten times as large as the paper's, in two modes and in one.
EXPLORATORY = {"policy_split_eta_0.3": "policy_split", "single_entropy_eta_0.3": "single_entropy"}
HEADLINE = (
    "policy_split",
    "grpo",
    "grpo_2x",
    "entropy_advantage",
    "single_entropy",
    "prompt_only",
    "freeze_loss@50%",
)
_ALGORITHM: TypeAdapter[Any] = TypeAdapter(AlgorithmSpec)


def planned_runs(learning_rate: float) -> list[PlannedRun]:
    """All runs in the order in which they are done: the headline first, and all arms of a seed together."""
    rest = [arm for arm in all_arms() if arm not in HEADLINE]
    runs = []
    for group in (list(HEADLINE), rest):
        for seed in SEEDS:
            for task in TASKS:
                runs += [planned_run(task, arm, seed, learning_rate) for arm in group]
    return runs


def tuning_runs() -> list[PlannedRun]:
    """The runs that choose the learning rate; they are used for nothing else."""
    return [planned_run(task, TUNED_ARM, TUNING_SEED, rate) for rate in LEARNING_RATES for task in TASKS]


def chosen_learning_rate(results: Mapping[str, dict[str, Any]]) -> float | None:
    """The rate with the highest accuracy on the dev items, a mean over tasks, by the results of
    :func:`tuning_runs` (by hash); None while one of them is missing."""
    accuracy: dict[float, list[float]] = {rate: [] for rate in LEARNING_RATES}
    for run in tuning_runs():
        result = results.get(run.hash)
        if result is None:
            return None
        rate = run.document["run"]["optimizer"]["learning_rate"]
        outcomes = (result["outcomes"] or {}).get("N")  # a run that broke down has none: the worst there is
        share = (
            0.0
            if outcomes is None
            else sum(outcomes["correct"][:DEV_ITEMS]) / sum(outcomes["graded"][:DEV_ITEMS])
        )
        accuracy[rate].append(share)
    return max(LEARNING_RATES, key=lambda rate: sum(accuracy[rate]))


def planned_run(task: str, arm: str, seed: int, learning_rate: float) -> PlannedRun:
    """One arm on one task with one seed."""
    spec = _with_arm(base_spec(task, seed, learning_rate), arm)
    return PlannedRun.of("tiny", task, arm, seed, spec)


def all_arms() -> list[str]:
    """In the order of the report."""
    return [*ABLATIONS, *BASELINES, *EXPLORATORY]


def analysis_plan() -> Plan:
    """What is compared with what, as pre-registered."""
    return Plan(
        arms=all_arms(),
        tasks=list(TASKS),
        seeds=SEEDS,
        metric="accuracy",
        mode="N",
        dev_items=DEV_ITEMS,
        method="policy_split",
        baselines=["grpo", "grpo_2x", *BASELINES],
        # As many trained rows: the first control that was named beforehand (PREREGISTRATION.md, Deviations).
        against="grpo_2x",
        controls={
            "grpo_2x": "grpo_2x",
            "single_entropy": "single_entropy",
            "prompt_only": "prompt_only",
            "freeze_loss": "freeze_loss@50%",
        },
        exploratory=list(EXPLORATORY),
    )


def base_spec(task: str, seed: int, learning_rate: float) -> RunSpec:
    """A run on the small model before an arm's settings are laid over it."""
    return RunSpec(
        run_id=f"tiny-{task}",
        model=ModelSpec(path=MODEL, dtype="float32"),
        training_data=JsonlData(path=TRAINING),
        validation_data=JsonlData(path=VALIDATION),
        grader=None,
        algorithm=PolicySplit(),
        high_entropy_prompt=HIGH_ENTROPY_PROMPT,
        rollout=RolloutSpec(prompts_per_step=16, samples_per_prompt=8, max_response_tokens=10),
        optimizer=OptimizerSpec(learning_rate=learning_rate),
        evaluation=EvaluationSpec(interval=25, max_items=VALIDATION_ITEMS, samples_per_item=8),
        diagnostics=DiagnosticsSpec(interval=25, probe_items=8),
        total_steps=STEPS,
        seed=seed,
    )


def _with_arm(base: RunSpec, arm: str) -> RunSpec:
    if arm in BASELINES:
        return base.model_copy(update={"algorithm": _ALGORITHM.validate_python({"type": arm})})
    if arm in EXPLORATORY:
        base = base.model_copy(update={"algorithm": PolicySplit(eta=0.3)})
    spec = load_ablation(EXPLORATORY.get(arm, arm), base.total_steps).run_spec(base)
    if arm == "neutral_prompt":  # the preset's prompt has words that this model does not know
        spec = spec.model_copy(update={"high_entropy_prompt": NEUTRAL_PROMPT})
    return spec
