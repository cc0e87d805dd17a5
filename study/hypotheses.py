"""The pre-registered hypotheses about the method's own arm, beside a control that could explain them away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from study.before import differences
from trainer.statistics.crossed import Estimate, Interval
from trainer.statistics.item_scores import item_values
from trainer.statistics.multiplicity import Corrected, corrected
from trainer.statistics.over_seeds import mean_interval, mean_p
from trainer.statistics.power import ALPHA
from trainer.statistics.ranges import SHARE, of_difference
from trainer.statistics.run_results import Analysis, Plan, RunResult
from trainer.statistics.wording import with_interval

_OF_KL = "eval/kl_H_N/prefix_H"


@dataclass(frozen=True)
class Seen:
    """What was seen of a hypothesis on a task: the test of zero, and the interval of any chance of error."""

    p: float
    interval: Callable[[float], Interval]

    def words(self, alpha: float) -> str:
        """The mean with its interval."""
        found = self.interval(alpha)
        return with_interval(found.mean, found.low, found.high, words="")


#: What is measured of an arm's runs on a task, one of each seed; None below two, as one has no spread.
Measure = Callable[[Sequence[RunResult]], Seen | None]


def hypotheses(analysis: Analysis, runs: Sequence[RunResult], control: str) -> str:
    """A table in Markdown: what was seen of each hypothesis, and whether it holds.

    Args:
        control: the arm whose two prompts ask for nothing, or whose bonus is missing.
    """
    plan = analysis["plan"]
    rows: list[tuple[str, str, Seen | None, Seen | None]] = []
    for words, measure in _measures(plan["dev_items"]).items():
        for task in plan["tasks"]:
            mine, other = (measure(_of_arm(runs, task, arm)) for arm in (plan["method"], control))
            rows.append((words, task, mine, other))
    for one in analysis["claims"]:
        words = f"(d) the normal mode beats the strongest baseline: accuracy − {one['baseline']}'s"
        table_SI = differences(runs, Plan.model_validate(plan), one["task"], one["method"], one["baseline"])
        rows.append((words, one["task"], None if table_SI is None else _of_table(table_SI), None))
    tested = [index for index, (_, _, mine, _) in enumerate(rows) if mine is not None]
    family = corrected([mine.p for _, _, mine, _ in rows if mine is not None], ALPHA)
    judged = dict(zip(tested, family, strict=True))
    over = (
        "" if analysis["progress"]["succeeded"] == analysis["progress"]["runs"] else " once all runs are in"
    )
    lines = [
        f"As pre-registered, in {plan['method']}: (a) and (b) are numbers of a seed, with Student's test, "
        f"(c) and (d) of seeds and items at large. All {len(tested)} are one family: *yes* and *no*{over} "
        f"where Holm's p over it is at most {ALPHA}, with the interval that belongs to it. Beside it "
        f"the same in {control}, with its own 95 % interval.\n",
        f"| hypothesis | task | seen | p | Holm p | holds | in {control} |\n|---|---|---|---|---|---|---|",
    ]
    for index, (words, task, mine, other) in enumerate(rows):
        beside = "–" if other is None else other.words(ALPHA)
        lines.append(f"| {words} | {task} | {_judged(mine, judged.get(index), bool(over))} | {beside} |")
    return "\n".join(lines) + "\n"


def _judged(seen: Seen | None, fixed: Corrected | None, provisional: bool) -> str:
    if seen is None or fixed is None:
        return "– | – | – | not decided"
    sure = fixed.p <= ALPHA and not provisional
    holds = ("yes" if seen.interval(ALPHA).mean > 0 else "no") if sure else "not decided"
    return f"{seen.words(fixed.alpha)} | {seen.p:.4f} | {fixed.p:.4f} | {holds}"


def _measures(dev_items: int) -> dict[str, Measure]:
    def entropies(run: RunResult) -> float:
        return run.diagnostics["eval/H/entropy_nats"] - run.diagnostics["eval/N/entropy_nats"]

    def growth(run: RunResult) -> float:
        points = run.curves[_OF_KL]
        return points[-1][1] - points[0][1]

    def mixture(run: RunResult) -> np.ndarray:
        mixed, normal = (item_values(run.outcomes or {}, "pass@8", mode) for mode in ("mix", "N"))
        return (mixed - normal)[dev_items:]

    return {
        "(a) the high-entropy mode's entropy ends above the normal mode's: H − N, nats": _number(entropies),
        "(b) the divergence of the modes grows: KL(H‖N) on H's prefixes, end − start, nats": _number(growth),
        "(c) the mixture solves at least as much in 8 samples: pass@8, mixed − N": _items(mixture),
    }


def _number(measured: Callable[[RunResult], float]) -> Measure:
    def seen(runs: Sequence[RunResult]) -> Seen | None:
        values_S = np.array([measured(run) for run in runs])
        if len(values_S) < 2:
            return None
        return Seen(mean_p(values_S), lambda alpha: mean_interval(values_S, alpha))

    return seen


def _items(measured: Callable[[RunResult], np.ndarray]) -> Measure:
    def seen(runs: Sequence[RunResult]) -> Seen | None:
        return _of_table(np.stack([measured(run) for run in runs])) if len(runs) > 1 else None

    return seen


def _of_table(table_SI: np.ndarray) -> Seen:
    one = Estimate(table_SI[:, np.isfinite(table_SI).all(axis=0)], of_difference(SHARE))
    return Seen(one.p(), one.interval)


def _of_arm(runs: Sequence[RunResult], task: str, arm: str) -> list[RunResult]:
    return [
        run
        for run in runs
        if (run.task, run.arm, run.status) == (task, arm, "succeeded") and len(run.outcomes or {}) == 2
    ]
