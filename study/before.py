"""Each published comparison by the rule of its publication, and by the present one.

Published was: a winner where Holm's p of the sign-flip test over items is at most 0.05 and the two-level
bootstrap's interval, uncorrected, excludes zero; the claim against the baseline that is strongest on the dev
items of the same seeds. Both are computed here from the same results, so nothing has to be believed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.statistics.crossed import mean_squares, pooled_p
from trainer.statistics.item_scores import item_values
from trainer.statistics.multiplicity import holm
from trainer.statistics.power import ALPHA, LEAST_SEEDS
from trainer.statistics.run_results import Analysis, Plan, RunResult
from trainer.statistics.wording import interval_ends, signed


def differences(runs: Sequence[RunResult], plan: Plan, task: str, method: str, arm: str) -> np.ndarray | None:
    """(seeds, items) on the test items that all have scores of; None without two common seeds."""
    scores = [
        {
            run.seed: item_values(run.outcomes or {}, plan.metric, plan.mode)[plan.dev_items :]
            for run in runs
            if (run.task, run.arm, run.status) == (task, name, "succeeded")
        }
        for name in (method, arm)
    ]
    seeds = sorted(scores[0].keys() & scores[1].keys())
    if len(seeds) < 2:
        return None
    table_SI = np.stack([scores[0][seed] - scores[1][seed] for seed in seeds])
    return table_SI[:, np.isfinite(table_SI).all(axis=0)]


def side_by_side(analysis: Analysis, runs: Sequence[RunResult]) -> str:
    """Markdown: what changed, then every comparison by both rules."""
    plan = Plan.model_validate(analysis["plan"])
    rows = analysis["against_method"]
    if not rows or analysis["progress"]["succeeded"] < analysis["progress"]["runs"]:
        return "Not before all runs are in.\n"
    published = _published(rows)
    changed = [one for one, name in zip(rows, published, strict=True) if (name or None) != one["winner"]]
    kept = [one for one, name in zip(rows, published, strict=True) if name and name == one["winner"]]
    lines = [
        f"Of {len(rows)} comparisons the published rule called {sum(map(bool, published))} separated; "
        f"{len(kept)} of these stand, {len(changed)} verdicts have changed. "
        f"{_one_family(plan, rows, published)}\n",
        *(f"- {_why(one, name)}" for one, name in zip(rows, published, strict=True) if one in changed),
        "\n| task | policy_split − arm | Δ | published: Holm p over items | interval | verdict "
        "| now: p | S − 1 | Holm p (level) | interval of the verdict | verdict |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    corrected = holm([one["these_models_p"] for one in rows])
    for one, name, p in zip(rows, published, corrected, strict=True):
        table_SI = differences(runs, plan, one["task"], one["method"], one["baseline"])
        simple = "–" if table_SI is None or not np.ptp(table_SI) else f"{_simple(table_SI):.4f}"
        chance = f"{100 * one['adjusted_confidence']:.4g} %"
        lines.append(
            f"| {one['task']} | {one['baseline']} | {signed(one['delta'])} | {p:.4f} "
            f"| {interval_ends(one['bootstrap_low'], one['bootstrap_high'])} | {name or '–'} "
            f"| {one['p']:.4f} | {simple} | {one['holm_p']:.4f} (≤ {one['level']:g}) "
            f"| {interval_ends(one['adjusted_low'], one['adjusted_high'])} ({chance}) "
            f"| {one['winner'] or ('exploratory' if one['withheld'] else '–')} |"
        )
    return "\n".join(lines) + "\n"


def _published(rows: Sequence[dict[str, Any]]) -> list[str | None]:
    """By comparison, the arm that the published rule calls better."""
    found: list[str | None] = []
    for one, p in zip(rows, holm([one["these_models_p"] for one in rows]), strict=True):
        outside = one["bootstrap_low"] > 0 or one["bootstrap_high"] < 0
        named = len(one["seeds"]) >= LEAST_SEEDS and p <= ALPHA and outside
        found.append((one["method"] if one["delta"] > 0 else one["baseline"]) if named else None)
    return found


def _one_family(plan: Plan, rows: Sequence[dict[str, Any]], published: Sequence[str | None]) -> str:
    """What the verdicts owe to the claim's being a family of its own."""
    if plan.against is None:
        return ""
    together = holm([one["p"] for one in rows])
    left = sum(p <= ALPHA and name is not None for p, name in zip(together, published, strict=True))
    return (
        f"Those with {plan.against} are the claim's, a family of its own; with all {len(rows)} in one "
        f"family, at {ALPHA}, {left} would stand."
    )


def _why(one: dict[str, Any], published: str | None) -> str:
    about = f"{one['task']}, {one['baseline']}: {published or 'not decided'} → "
    if one["withheld"]:
        return f"{about}no verdict: the arm is exploratory, and claims nothing."
    now = one["winner"] or "not decided"
    return (
        f"{about}{now}: with the spread of seeds in the test p is {one['p']:.4f}, corrected "
        f"{one['holm_p']:.4f} (level {one['level']:g}); the published p took the trained models as given, "
        "and its interval, which holds the seeds, was not corrected."
    )


def _simple(table_SI: np.ndarray) -> float:
    return float(pooled_p(mean_squares(table_SI)))
