"""From the results of runs to what may be said of them, as one JSON document.

    runs ─▶ item scores (arm, task, seed) ─▶ dev items: the strongest baseline of each task
                                         └▶ test items: method - that baseline (the claim, Holm over tasks)
                                                        method - every other arm (Holm over all of them)
                                                        the controls of the synergy rule (Holm over these)

Nothing is dropped in silence: failed runs are listed, items without a score counted, and an arm whose seeds
are incomplete is compared on those that both have, which the document names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from trainer.statistics.bootstrap import DRAWS, mean_interval
from trainer.statistics.comparison import LEAST_SEEDS, Comparison, compare, corrected, verdict
from trainer.statistics.item_scores import item_values, shared_ks
from trainer.statistics.outcomes import MODES, Outcomes
from trainer.statistics.power import ALPHA, POWER
from trainer.statistics.run_results import Analysis, Plan, Point, RunResult
from trainer.statistics.synergy import CONTROLS, synergy

Scores = dict[int, np.ndarray]


def analyse(plan: Plan, runs: Sequence[RunResult], *, draws: int = DRAWS) -> Analysis:
    """The report's content. ``draws`` of the bootstrap and the permutation test."""
    finished = [run for run in runs if run.status == "succeeded" and run.outcomes]
    by_cell: dict[tuple[str, str], list[RunResult]] = {}
    for run in finished:
        by_cell.setdefault((run.arm, run.task), []).append(run)
    table = _Table(plan, by_cell, draws)
    claims = corrected([one for task in plan.tasks if (one := table.claim(task)) is not None])
    others = [arm for arm in plan.arms if arm != plan.method]
    against = corrected(
        [one for task in plan.tasks for arm in others if (one := table.test(task, plan.method, arm))]
    )
    return {
        "plan": plan.model_dump(mode="json"),
        "method": {"draws": draws, "alpha": ALPHA, "power": POWER, "least_seeds": LEAST_SEEDS},
        "progress": _progress(runs),
        "claims": [_shown(one) for one in claims],
        "winner": _winner(plan, claims),
        "synergy": _synergy(plan, table),
        "against_method": [_shown(one) for one in against],
        "arms": [
            _arm(plan, arm, task, by_cell.get((arm, task), [])) for task in plan.tasks for arm in plan.arms
        ],
        "runs": [_listed(run) for run in runs],
        "notes": _notes(plan, runs, claims),
    }


class _Table:
    """Item scores by arm, task and seed, and the comparisons that can be made of them."""

    def __init__(self, plan: Plan, cells: Mapping[tuple[str, str], Sequence[RunResult]], draws: int):
        self._plan, self._draws = plan, draws
        self._scores: dict[tuple[str, str], Scores] = {}
        for key, runs in cells.items():
            values = {run.seed: _values(plan, run) for run in runs}
            # A task has as many items in all runs; a run that has another number is of another task.
            length = max(map(len, values.values()))
            self._scores[key] = {seed: one for seed, one in values.items() if len(one) == length}

    def part(self, arm: str, task: str, *, dev: bool) -> Scores:
        scores = self._scores.get((arm, task), {})
        cut = self._plan.dev_items
        return {seed: one[:cut] if dev else one[cut:] for seed, one in scores.items()}

    def test(self, task: str, method: str, baseline: str) -> Comparison | None:
        """The two arms on the task's test items."""
        first, second = (self.part(arm, task, dev=False) for arm in (method, baseline))
        return compare(task, method, baseline, first, second, draws=self._draws)

    def strongest(self, task: str) -> str | None:
        """The baseline with the highest mean on the dev items; None without dev results."""
        means = {
            arm: float(np.nanmean([np.nanmean(one) for one in scores.values()]))
            for arm in self._plan.baselines
            if (scores := self.part(arm, task, dev=True))
            and all(np.isfinite(v).any() for v in scores.values())
        }
        return max(means, key=lambda arm: means[arm]) if means else None

    def claim(self, task: str) -> Comparison | None:
        """The method against the strongest baseline of the task."""
        baseline = self.strongest(task)
        return None if baseline is None else self.test(task, self._plan.method, baseline)


def _values(plan: Plan, run: RunResult) -> np.ndarray:
    return item_values(run.outcomes or {}, plan.metric, plan.mode)


def _shown(one: Comparison) -> dict[str, Any]:
    return asdict(one) | {"separated": one.separated, "winner": one.winner, "verdict": verdict(one)}


def _winner(plan: Plan, claims: Sequence[Comparison]) -> dict[str, Any]:
    """The arm that wins on every task, if there is one, and the sentence about it."""
    if len(claims) < len(plan.tasks):
        missing = sorted(set(plan.tasks) - {one.task for one in claims})
        return {"arm": None, "sentence": f"No winner: no result to compare on {', '.join(missing)} yet."}
    winners = {one.winner for one in claims}
    (arm,) = winners if len(winners) == 1 else (None,)
    if arm == plan.method:
        words = f"{arm} is better than the strongest baseline on every task ({', '.join(plan.tasks)})."
        return {"arm": arm, "sentence": words}
    if all(one.winner == one.baseline for one in claims):
        beaten = "; ".join(f"{one.baseline} on {one.task}" for one in claims)
        words = f"{plan.method} is worse than the strongest baseline on every task: {beaten}."
        return {"arm": arm, "sentence": words}
    return {"arm": None, "sentence": " ".join(verdict(one) for one in claims)}


def _synergy(plan: Plan, table: _Table) -> list[dict[str, Any]]:
    """The synergy rule on each task; corrected over all of its comparisons together."""
    found = [
        (task, name, table.test(task, plan.method, plan.controls[name]))
        for task in plan.tasks
        for name in CONTROLS
        if name in plan.controls
    ]
    family = iter(corrected([one for _, _, one in found if one is not None]))
    fixed = [(task, name, None if one is None else next(family)) for task, name, one in found]
    rules = []
    for task in plan.tasks:
        against = {name: one for at, name, one in fixed if at == task}
        rule = synergy(against)
        shown = [_shown(one) for one in against.values() if one is not None]
        rules.append(
            {"task": task, "claimed": rule.claimed, "reasons": list(rule.reasons), "comparisons": shown}
        )
    return rules


def _arm(plan: Plan, arm: str, task: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    """An arm on a task: its scores, pass@k, curves, diagnostics and cost."""
    scores = {run.seed: _values(plan, run) for run in sorted(runs, key=lambda one: one.seed)}
    test = {seed: _mean(one[plan.dev_items :]) for seed, one in scores.items()}
    dev = [_mean(one[: plan.dev_items]) for one in scores.values()]
    shown: dict[str, Any] = {
        "arm": arm,
        "task": task,
        "exploratory": arm in plan.exploratory,
        "seeds": list(test),
        "by_seed": list(test.values()),
        "dev": _spread([one for one in dev if one is not None]),
        "test": _spread([one for one in test.values() if one is not None]),
        "pass_at_k": _pass_at_k([run.outcomes for run in runs if run.outcomes], plan.dev_items),
        "curves": _curves([run.curves for run in runs]),
        "diagnostics": _named([run.diagnostics for run in runs]),
    }
    costs = ("samples_generated", "tokens_generated", "tokens_trained", "seconds")
    shown["cost"] = {name: _spread([getattr(run, name) for run in runs]) for name in costs}
    return shown


def _mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean over seeds, its 95 % interval, and the standard deviation."""
    if not values:
        return None
    interval = mean_interval(np.array(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "std": std}


def _named(dicts: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    names = sorted({name for one in dicts for name in one})
    return {name: _spread([one[name] for one in dicts if name in one]) for name in names}


def _pass_at_k(outcomes: Sequence[Outcomes], dev_items: int) -> dict[str, list[dict[str, float]]]:
    """pass@k on the test items by mode, and of the mixture at as many samples."""
    curves = {}
    for mode in MODES:
        if not outcomes or (mode != "N" and any(len(one) < 2 for one in outcomes)):
            continue
        ks = set.intersection(*(set(shared_ks(one, mode)) for one in outcomes))
        curve = []
        for k in sorted(ks):
            means = [_mean(item_values(one, f"pass@{k}", mode)[dev_items:]) for one in outcomes]
            if spread := _spread([one for one in means if one is not None]):
                curve.append({"k": k, **spread})
        curves[mode] = curve
    return curves


def _curves(runs: Sequence[Mapping[str, Sequence[Point]]]) -> dict[str, list[dict[str, float]]]:
    """Each series' mean and standard deviation over seeds, at the steps that all of its seeds have."""
    curves = {}
    for name in sorted({name for one in runs for name in one}):
        series = [dict(one[name]) for one in runs if name in one]
        steps = sorted(set.intersection(*(set(one) for one in series)))
        values_SX = np.array([[one[step] for step in steps] for one in series])
        if not steps:
            continue
        std = values_SX.std(axis=0, ddof=1) if len(series) > 1 else np.zeros(len(steps))
        curves[name] = [
            {"step": step, "mean": float(mean), "std": float(deviation)}
            for step, mean, deviation in zip(steps, values_SX.mean(axis=0), std, strict=True)
        ]
    return curves


def _progress(runs: Sequence[RunResult]) -> dict[str, int]:
    counts = {"runs": len(runs)}
    for status in ("waiting", "queued", "running", "succeeded", "failed", "cancelled"):
        counts[status] = sum(run.status == status for run in runs)
    return counts


def _listed(run: RunResult) -> dict[str, Any]:
    kept = {"arm", "task", "seed", "status", "id", "error", "samples_generated", "tokens_trained", "seconds"}
    return run.model_dump(include=kept)


def _notes(plan: Plan, runs: Sequence[RunResult], claims: Sequence[Comparison]) -> list[str]:
    notes = []
    if failed := sum(run.status in ("failed", "cancelled") for run in runs):
        notes.append(f"Runs that failed or were cancelled: {failed}; they are listed, their seeds unpaired.")
    if unfinished := sum(run.status in ("waiting", "queued", "running") for run in runs):
        notes.append(f"Runs that have not ended: {unfinished} of {len(runs)}; all figures are provisional.")
    for one in claims:
        least = 2 / 2 ** len(one.seeds)
        if least > ALPHA:
            notes.append(
                f"{one.task}: a sign-flip over seeds could not go below p = {least:.4g} "
                f"(seeds: {len(one.seeds)}), so the test flips items; the spread of seeds is in the interval."
            )
        if one.items_left_out:
            notes.append(
                f"{one.task}: items left out, as some run has no score of them: {one.items_left_out}."
            )
    if plan.exploratory:
        notes.append(f"Exploratory arms, which claim nothing: {', '.join(plan.exploratory)}.")
    return notes
