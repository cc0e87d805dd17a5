"""The arms, seeds, tasks and settings of the study of exploration by answers on the small model.

PREREGISTRATION.md beside this file says why, and was committed before any of these runs.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from study.design import base_spec
from study.planned_run import PlannedRun
from study.tasks import TASKS, VALIDATION_ITEMS
from trainer.ablations import load_ablation
from trainer.spec.algorithm import AnswerExploration, PolicySplit, TokenExploration
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.run import DiagnosticsSpec, RunSpec
from trainer.statistics.outcomes import ModeLabel
from trainer.statistics.run_results import Plan

NAME = "answers"
SEEDS = [0, 1, 2, 3, 4]
#: What the study of all arms chose on this model, with GRPO on other items than those of any test.
LEARNING_RATE = 3e-4
DEV_ITEMS = 32
SHARING: tuple[Literal["both", "none_pooled", "h_to_n"], ...] = ("both", "none_pooled", "h_to_n")


@dataclass(frozen=True)
class Pair:
    """Two modes, and one mode that is rewarded for unique answers and trains as many rows."""

    two_modes: str
    one_mode: str


#: The first is the claim; the second is the same with shared responses, each of which is trained twice.
PAIRS = (
    Pair("lambda_1-none_pooled", "grpo_unique"),
    Pair("lambda_1-both", "grpo_2x_unique"),
)


@dataclass(frozen=True)
class Outcome:
    """What is measured of an arm; of one with a single mode it is that mode's."""

    words: str
    metric: str
    mode: ModeLabel
    #: How much worse an arm may be and still count as no worse.
    margin: float


VARIETY = Outcome("different right answers in 8, high-entropy mode", "distinct_right@8", "H", 0.2)
ACCURACY = Outcome("accuracy, normal mode", "accuracy", "N", 0.02)
NORMAL_VARIETY = Outcome("different right answers in 8, normal mode", "distinct_right@8", "N", 0.2)
OUTCOMES = (VARIETY, ACCURACY, NORMAL_VARIETY)


def _two_modes() -> dict[str, PolicySplit]:
    """policy_split at the paper's settings, with and without rewards for unique answers and its own bonus."""
    found: dict[str, PolicySplit] = {}
    for scale, explored in ((1, AnswerExploration()), (0, TokenExploration())):
        for sharing, (suffix, eta) in product(SHARING, (("", 0.03), ("-no_bonus", 0.0))):
            found[f"lambda_{scale}-{sharing}{suffix}"] = PolicySplit(
                sharing=sharing, eta=eta, exploration=explored
            )
    for scale, explored in ((1, AnswerExploration()), (0, TokenExploration())):
        found[f"lambda_{scale}-no_share"] = PolicySplit(sharing="none", exploration=explored)
    return found


_TWO_MODES = _two_modes()
#: Each by the ablation that it is laid over, and its uniqueness.
_ONE_MODE = {
    "grpo": ("grpo", 0.0),
    "grpo_2x": ("grpo_2x", 0.0),
    "grpo_unique": ("grpo", 1.0),
    "grpo_2x_unique": ("grpo_2x", 1.0),
}


def arms() -> list[str]:
    """In the order of the report."""
    return [*_TWO_MODES, *_ONE_MODE]


def planned_runs() -> list[PlannedRun]:
    """All runs in the order in which they are done: all arms of a seed together, the claim's first."""
    first = [arm for pair in PAIRS for arm in (pair.two_modes, pair.one_mode)]
    order = [*first, *(arm for arm in arms() if arm not in first)]
    return [planned_run(task, arm, seed) for seed in SEEDS for arm in order for task in reversed(TASKS)]


def planned_run(task: str, arm: str, seed: int) -> PlannedRun:
    """One arm on one task with one seed."""
    base = base_spec(task, seed, LEARNING_RATE).model_copy(
        update={
            "run_id": f"{NAME}-{task}",
            "evaluation": EvaluationSpec(
                interval=0, max_items=VALIDATION_ITEMS, samples_per_item=8, token_metric_samples=1
            ),
            "diagnostics": DiagnosticsSpec(interval=0, divergence_stride=0),
        }
    )
    return PlannedRun.of(NAME, task, arm, seed, with_arm(base, arm))


def with_arm(base: RunSpec, arm: str) -> RunSpec:
    """The run with the arm's algorithm; one mode aggregates and clips as the two do."""
    if arm in _TWO_MODES:
        return base.model_copy(update={"algorithm": _TWO_MODES[arm]})
    ablation, uniqueness = _ONE_MODE[arm]
    spec = load_ablation(ablation, base.total_steps).run_spec(base)
    return spec.model_copy(update={"algorithm": spec.algorithm.model_copy(update={"uniqueness": uniqueness})})


def analysis_plan(outcome: Outcome = VARIETY) -> Plan:
    """What is compared with what, as pre-registered: the claim's arm with every other."""
    return _plan(PAIRS[0], outcome, arms())


def pair_plan(pair: Pair, outcome: Outcome) -> Plan:
    """The two arms of a pair alone."""
    return _plan(pair, outcome, [pair.two_modes, pair.one_mode])


def _plan(pair: Pair, outcome: Outcome, of: list[str]) -> Plan:
    return Plan(
        arms=of,
        tasks=list(reversed(TASKS)),
        seeds=SEEDS,
        metric=outcome.metric,
        mode=outcome.mode,
        dev_items=DEV_ITEMS,
        method=pair.two_modes,
        baselines=[pair.one_mode],
    )
