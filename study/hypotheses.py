"""The pre-registered hypotheses about the method's own arm, beside a control that could explain them away."""

from collections.abc import Callable, Sequence

import numpy as np

from trainer.statistics.bootstrap import Interval, mean_interval
from trainer.statistics.item_scores import item_values
from trainer.statistics.run_results import Analysis, RunResult
from trainer.statistics.wording import with_interval

_OF_KL = "eval/kl_H_N/prefix_H"


def hypotheses(analysis: Analysis, runs: Sequence[RunResult], control: str) -> str:
    """A table in Markdown: what each hypothesis is about, as a mean over seeds with Student's interval.

    Args:
        control: the arm whose two prompts ask for nothing, or whose bonus is missing.
    """
    plan = analysis["plan"]
    lines = [
        f"As pre-registered, in {plan['method']}; a mean over seeds with Student's 95 % interval, for (d) "
        f"that of the claim. *Yes* and *no* where it excludes zero. Beside it the same in {control}.\n",
        f"| hypothesis | task | seen | holds | in {control} |\n|---|---|---|---|---|",
    ]
    for words, measured in _measures(plan["dev_items"]).items():
        for task in plan["tasks"]:
            mine, other = (_over_seeds(runs, task, arm, measured) for arm in (plan["method"], control))
            lines.append(f"| {words} | {task} | {_shown(mine)} | {_holds(mine)} | {_shown(other)} |")
    for one in analysis["claims"]:
        seen = Interval(one["delta"], one["low"], one["high"])
        holds = "not decided" if one["winner"] is None else "yes" if one["delta"] > 0 else "no"
        words = f"(d) the normal mode beats the strongest baseline: accuracy − {one['baseline']}'s"
        lines.append(f"| {words} | {one['task']} | {_shown(seen)} | {holds} | |")
    return "\n".join(lines) + "\n"


def _measures(dev_items: int) -> dict[str, Callable[[RunResult], float]]:
    def entropies(run: RunResult) -> float:
        return run.diagnostics["eval/H/entropy_nats"] - run.diagnostics["eval/N/entropy_nats"]

    def growth(run: RunResult) -> float:
        points = run.curves[_OF_KL]
        return points[-1][1] - points[0][1]

    def mixture(run: RunResult) -> float:
        mixed, normal = (item_values(run.outcomes or {}, "pass@8", mode) for mode in ("mix", "N"))
        return float(np.nanmean((mixed - normal)[dev_items:]))

    return {
        "(a) the high-entropy mode's entropy ends above the normal mode's: H − N, nats": entropies,
        "(b) the divergence of the modes grows: KL(H‖N) on H's prefixes, end − start, nats": growth,
        "(c) the mixture solves at least as much in 8 samples: pass@8, mixed − N": mixture,
    }


def _over_seeds(
    runs: Sequence[RunResult], task: str, arm: str, measured: Callable[[RunResult], float]
) -> Interval | None:
    """None below two seeds: one has no spread."""
    values = [
        measured(run)
        for run in runs
        if (run.task, run.arm, run.status) == (task, arm, "succeeded") and len(run.outcomes or {}) == 2
    ]
    return mean_interval(np.array(values)) if len(values) > 1 else None


def _holds(seen: Interval | None) -> str:
    if seen is None or not seen.excludes(0.0):
        return "not decided"
    return "yes" if seen.mean > 0 else "no"


def _shown(seen: Interval | None) -> str:
    return "–" if seen is None else with_interval(seen.mean, seen.low, seen.high, words="")
