"""An arm on a task, summarised over its seeds: scores, pass@k, curves, diagnostics and cost."""

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.statistics.crossed import Estimate, share_interval
from trainer.statistics.item_scores import item_values, metric_bounds, shared_ks
from trainer.statistics.outcomes import MODES, Outcomes
from trainer.statistics.power import ALPHA
from trainer.statistics.ranges import SHARE
from trainer.statistics.run_results import Plan, Point, RunResult

_COSTS = ("samples_generated", "tokens_generated", "tokens_trained", "seconds")


def summary(plan: Plan, arm: str, task: str, runs: Sequence[RunResult]) -> dict[str, object]:
    """Of the arm's finished runs on the task, in any order."""
    runs = sorted(runs, key=lambda one: one.seed)
    scores = [item_values(run.outcomes or {}, plan.metric, plan.mode) for run in runs]
    outcomes = [run.outcomes for run in runs if run.outcomes]
    return {
        "arm": arm,
        "task": task,
        "exploratory": arm in plan.exploratory,
        "seeds": [run.seed for run in runs],
        "by_seed": [_mean(one[plan.dev_items :]) for one in scores],
        "dev": _scores([one[: plan.dev_items] for one in scores], plan.metric),
        "test": _scores([one[plan.dev_items :] for one in scores], plan.metric),
        **{f"{name}_at_k": _at_k(name, outcomes, plan.dev_items) for name in ("pass", "distinct_right")},
        "curves": _curves([run.curves for run in runs]),
        "diagnostics": _named([run.diagnostics for run in runs]),
        "cost": {name: spread([getattr(run, name) for run in runs]) for name in _COSTS},
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and standard deviation over seeds; one seed has none, which is told as 0."""
    if not values:
        return None
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def _scores(by_seed: Sequence[np.ndarray], metric: str) -> dict[str, float | None] | None:
    """Mean and deviation over seeds, and the 95 % interval over seeds and items at large.

    Items that some seed has no score of count in the mean, not in the interval.
    """
    means = [mean for one in by_seed if (mean := _mean(one)) is not None]
    over_seeds = spread(means)
    if over_seeds is None:
        return None
    length = max(map(len, by_seed))
    table_SI = np.stack([one for one in by_seed if len(one) == length])
    table_SI = table_SI[:, np.isfinite(table_SI).all(axis=0)]
    if not table_SI.size:
        return {**over_seeds, "low": None, "high": None}
    bounds = metric_bounds(metric)
    interval = (
        share_interval(table_SI, ALPHA) if bounds == SHARE else Estimate(table_SI, bounds).interval(ALPHA)
    )
    return {**over_seeds, **interval.ends()}


def _mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _named(dicts: Sequence[Mapping[str, float]]) -> dict[str, object]:
    names = sorted({name for one in dicts for name in one})
    return {name: spread([one[name] for one in dicts if name in one]) for name in names}


def _at_k(
    name: str, outcomes: Sequence[Outcomes], dev_items: int
) -> dict[str, list[dict[str, float | None]]]:
    """``name@k`` on the test items by mode, and of the mixture at as many samples, where it is known."""
    curves: dict[str, list[dict[str, float | None]]] = {}
    for mode in MODES:
        if not outcomes or (mode != "N" and any(len(one) < 2 for one in outcomes)):
            continue
        ks = [set(shared_ks(one, mode)) for one in outcomes]
        curve: list[dict[str, float | None]] = []
        for k in sorted(ks[0].intersection(*ks)):
            scores = [item_values(one, f"{name}@{k}", mode)[dev_items:] for one in outcomes]
            if found := _scores(scores, f"{name}@{k}"):
                curve.append({"k": k, **found})
        curves[mode] = curve
    return curves


def _curves(runs: Sequence[Mapping[str, Sequence[Point]]]) -> dict[str, list[dict[str, float]]]:
    """Each series' mean and standard deviation over seeds, at the steps that all of its seeds have."""
    curves: dict[str, list[dict[str, float]]] = {}
    for name in sorted({name for one in runs for name in one}):
        series = [dict(one[name]) for one in runs if name in one]
        steps = sorted(set(series[0]).intersection(*series))
        values_SX = np.array([[one[step] for step in steps] for one in series])
        if not steps:
            continue
        std = values_SX.std(axis=0, ddof=1) if len(series) > 1 else np.zeros(len(steps))
        curves[name] = [
            {"step": step, "mean": float(mean), "std": float(deviation)}
            for step, mean, deviation in zip(steps, values_SX.mean(axis=0), std, strict=True)
        ]
    return curves
