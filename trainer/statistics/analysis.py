"""From the results of runs to what may be said of them, as one JSON document.

    runs ─▶ item scores (arm, task, seed) ─▶ test items: the claim of each task      (family 1: claims)
                                         └▶              method - each other arm     (family 2: all others)

The two families share what the report as a whole may err with (``claims.levels``); within each, Holm corrects
over all of its comparisons. The synergy rule reads the verdicts that are there and makes no test of its own.

Nothing is dropped in silence: failed runs are listed, runs that were evaluated on other items named, items
without a score counted, and an arm whose seeds are incomplete is compared on those that both have, which the
document names. No verdict is read while planned runs have not ended: who looks until it suits finds a
difference where there is none. For the same reason, seeds that are added once a result can be seen take one
of the analyses that were planned; where none is left, the verdicts stay those of the seeds before.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypedDict

import numpy as np

from trainer.statistics import claims as claimed
from trainer.statistics.arm_summary import summary
from trainer.statistics.bootstrap import DRAWS
from trainer.statistics.claims import Claim
from trainer.statistics.comparison import LEAST_SEEDS, Comparison, compare, judged, verdict
from trainer.statistics.item_scores import item_values, metric_bounds
from trainer.statistics.power import ALPHA, POWER
from trainer.statistics.ranges import of_difference
from trainer.statistics.run_results import OPEN, Analysis, Plan, RunResult
from trainer.statistics.synergy import CONTROLS, synergy

Scores = dict[int, np.ndarray]
_EXPLORATORY = "exploratory"


def analyse(plan: Plan, runs: Sequence[RunResult], *, draws: int = DRAWS) -> Analysis:
    """The report's content. ``draws`` of the bootstrap and the permutation test."""
    finished, odd = _comparable([run for run in runs if run.status == "succeeded" and run.outcomes])
    by_cell: dict[tuple[str, str], list[RunResult]] = {}
    for run in finished:
        by_cell.setdefault((run.arm, run.task), []).append(run)
    table = _Table(plan.model_copy(update={"seeds": plan.judged_seeds}), runs, by_cell, draws)
    claims, sentences = (
        table.claims,
        [claimed.claim_sentence(one, table.on(one.closest.task)) for one in table.claims],
    )
    arm, sentence = claimed.winner(claims, plan.tasks, sentences)
    if table.unfinished:
        arm, sentence = None, f"No verdict yet: {table.unfinished}."
    return {
        "plan": plan.model_dump(mode="json"),
        "method": {"draws": draws, "alpha": _alpha(plan), "power": POWER, "least_seeds": LEAST_SEEDS}
        | dict(zip(("claims_level", "others_level"), table.levels, strict=True)),
        "progress": _progress(runs),
        "claims": [_shown_claim(one, words) for one, words in zip(claims, sentences, strict=True)],
        "winner": {"arm": arm, "sentence": sentence},
        "synergy": [_synergy(plan, table, task) for task in plan.tasks],
        "against_method": [_shown(one) for task in plan.tasks for one in table.on(task).values()],
        "arms": [
            summary(plan, arm, task, by_cell.get((arm, task), [])) for task in plan.tasks for arm in plan.arms
        ],
        "same_runs": table.same_runs,
        "runs": [_listed(run) for run in runs],
        "notes": [*_notes(plan, runs, table), *odd],
    }


def _comparable(runs: Sequence[RunResult]) -> tuple[list[RunResult], list[str]]:
    """The runs that were evaluated on as many items as most of their task's, and a note of the others.

    Runs are paired item by item, so those with another number of items were evaluated on something else.
    """
    counts: dict[str, Counter[int]] = {}
    for run in runs:
        counts.setdefault(run.task, Counter())[_items(run)] += 1
    usual = {task: max(found, key=lambda n: (found[n], n)) for task, found in counts.items()}
    kept = [run for run in runs if _items(run) == usual[run.task]]
    odd = [
        f"{run.task}: {run.arm} with seed {run.seed} is left out of every figure, because it was evaluated "
        f"on {_items(run)} items and the others on {usual[run.task]}."
        for run in runs
        if _items(run) != usual[run.task]
    ]
    return kept, odd


def _items(run: RunResult) -> int:
    """How many items the run's modes were both evaluated on; they are as many in each."""
    return min((len(of_mode.graded) for of_mode in (run.outcomes or {}).values()), default=0)


class SameRuns(TypedDict):
    """Arms of a task that are one method with these settings."""

    task: str
    arms: list[str]


class _Table:
    """Item scores by arm, task and seed, and the comparisons that are made of them, judged."""

    def __init__(
        self,
        plan: Plan,
        runs: Sequence[RunResult],
        cells: Mapping[tuple[str, str], Sequence[RunResult]],
        draws: int,
    ):
        self._plan, self._draws, self._cells = plan, draws, cells
        self.unfinished = _unfinished(plan, runs)
        self._scores: dict[tuple[str, str], Scores] = {}
        for key, of_cell in cells.items():
            self._scores[key] = {
                run.seed: item_values(run.outcomes or {}, plan.metric, plan.mode)
                for run in of_cell
                if run.seed in plan.seeds
            }
        self._twins = _twins(plan, cells)
        self.claims, self._judged = self._judge()

    def on(self, task: str) -> dict[str, Comparison]:
        """By arm, in the plan's order: the method - that arm, as it was judged."""
        return {arm: one for arm in self._plan.arms if (one := self._judged.get((task, arm)))}

    @property
    def same_runs(self) -> list[SameRuns]:
        """Arms whose runs have the same outcomes, to the last answer, in every seed."""
        groups: dict[tuple[str, str], list[str]] = {}
        for (task, arm), first in self._twins.items():
            groups.setdefault((task, first), []).append(arm)
        return [{"task": task, "arms": arms} for (task, _), arms in groups.items() if len(arms) > 1]

    def incomplete(self, task: str, arm: str) -> list[int]:
        """Planned seeds that the arm has no result of on the task."""
        return [seed for seed in self._plan.seeds if seed not in self._scores.get((arm, task), {})]

    def _judge(self) -> tuple[list[Claim], dict[tuple[str, str], Comparison]]:
        plan = self._plan
        every = {
            (task, arm): one
            for task in plan.tasks
            for arm in plan.arms
            if arm != plan.method and (one := self._compared(task, arm)) is not None
        }
        pair = plan.against or (plan.baselines[0] if len(plan.baselines) == 1 else None)
        wanted = plan.baselines if pair is None else [pair]
        met = {
            task: [arm for arm in wanted if (task, arm) in every and not self.incomplete(task, arm)]
            for task in plan.tasks
        }
        # What a claim against one arm says is not tested a second time.
        own = {(task, arm) for task, arms in met.items() for arm in arms if pair is not None}
        others = [key for key, one in every.items() if key not in own and one.withheld != _EXPLORATORY]
        self.levels = claimed.levels(any(met.values()), bool(others), _alpha(plan))
        of_claims, of_others = self.levels
        claims = [
            claimed.claim(
                [every[task, arm] for arm in arms], [arm for arm in wanted if arm not in arms], of_claims
            )
            for task, arms in met.items()
            if arms
        ]
        claims = claimed.judged_claims(claims, of_claims)
        hypotheses = [(task, self._twins.get((task, arm), arm)) for task, arm in others]
        family = judged([every[key] for key in others], of_others, hypotheses=hypotheses)
        found = every | dict(zip(others, family, strict=True))
        for one in claims:
            task = one.closest.task
            of_task = {arm: found[task, arm] for arm in one.against}
            found |= {(task, arm): fixed for arm, fixed in claimed.implied(one, of_task).items()}
        if pair is not None:
            found |= {(one.closest.task, pair): one.closest for one in claims}
        return claims, found

    def _compared(self, task: str, arm: str) -> Comparison | None:
        """The method - the arm on the task's test items."""
        plan, cut = self._plan, self._plan.dev_items
        first, second = (
            {seed: one[cut:] for seed, one in self._scores.get((name, task), {}).items()}
            for name in (plan.method, arm)
        )
        return compare(
            task,
            plan.method,
            arm,
            first,
            second,
            bounds=of_difference(metric_bounds(plan.metric)),
            withheld=_EXPLORATORY if arm in plan.exploratory else self.unfinished,
            draws=self._draws,
        )


def _unfinished(plan: Plan, runs: Sequence[RunResult]) -> str | None:
    """That planned runs have not ended, in words."""
    ended = {(run.arm, run.task, run.seed) for run in runs if run.status not in OPEN}
    planned = [(arm, task, seed) for arm in plan.arms for task in plan.tasks for seed in plan.seeds]
    left = sum(one not in ended for one in planned)
    return f"{left} of {len(planned)} planned runs have not ended" if left else None


def _twins(plan: Plan, cells: Mapping[tuple[str, str], Sequence[RunResult]]) -> dict[tuple[str, str], str]:
    """By task and arm: the first arm of the plan that has the same outcomes in all seeds."""
    found: dict[tuple[str, str], str] = {}
    firsts: dict[str, str] = {}
    for task in plan.tasks:
        for arm in plan.arms:
            if runs := cells.get((arm, task)):
                outcomes = {
                    run.seed: {mode: one.model_dump() for mode, one in (run.outcomes or {}).items()}
                    for run in runs
                }
                key = f"{task} {json.dumps(outcomes, sort_keys=True)}"
                found[task, arm] = firsts.setdefault(key, arm)
    return found


def _shown(one: Comparison) -> dict[str, object]:
    """A comparison as JSON."""
    kept: dict[str, object] = {
        each.name: getattr(one, each.name)
        for each in fields(one)
        if each.name not in ("estimate", "interval", "adjusted", "bootstrap", "adjusted_alpha", "first_level")
    }
    size = one.needed
    return kept | {
        **one.interval.ends(),
        **{f"adjusted_{end}": value for end, value in one.adjusted.ends().items()},
        "adjusted_confidence": 1.0 - one.adjusted_alpha,
        **{f"bootstrap_{end}": value for end, value in one.bootstrap.ends().items()},
        "detectable": one.detectable,
        "seeds_needed": None if size is None else size.seeds,
        "items_needed": None if size is None else size.items,
        "seeds_needed_least": None if size is None else size.least_seeds,
        "seeds_needed_most": None if size is None else size.most_seeds,
        "separated": one.separated,
        "winner": one.winner,
        "verdict": verdict(one),
    }


def _shown_claim(one: Claim, sentence: str) -> dict[str, object]:
    about = {"against": list(one.against), "left_out": list(one.left_out), "unbeaten": list(one.unbeaten)}
    own = {"claim_p": one.p, "winner": one.winner, "separated": one.winner is not None, "verdict": sentence}
    return _shown(one.closest) | about | own


def _synergy(plan: Plan, table: _Table, task: str) -> dict[str, object]:
    """The synergy rule on a task, from the verdicts on its controls."""
    on_task = table.on(task)
    against = {name: on_task.get(plan.controls[name]) for name in CONTROLS if name in plan.controls}
    rule = synergy(against)
    shown = [_shown(one) for one in against.values() if one is not None]
    return {"task": task, "claimed": rule.claimed, "reasons": list(rule.reasons), "comparisons": shown}


def _progress(runs: Sequence[RunResult]) -> dict[str, int]:
    counts = {"runs": len(runs)}
    for status in ("waiting", "queued", "running", "succeeded", "failed", "cancelled"):
        counts[status] = sum(run.status == status for run in runs)
    return counts


def _listed(run: RunResult) -> dict[str, object]:
    kept = {"arm", "task", "seed", "status", "id", "error", "samples_generated", "tokens_trained", "seconds"}
    return run.model_dump(include=kept)


def _notes(plan: Plan, runs: Sequence[RunResult], table: _Table) -> list[str]:
    notes: list[str] = []
    if failed := sum(run.status in ("failed", "cancelled") for run in runs):
        notes.append(
            f"Runs that failed or were cancelled: {failed}; they are listed, and their seeds are "
            "left unpaired."
        )
    if table.unfinished:
        notes.append(f"{table.unfinished}: all figures are provisional, and there is no verdict before then.")
    for task in plan.tasks:
        if left_out := [arm for arm in plan.baselines if table.incomplete(task, arm)]:
            notes.append(
                f"{task}: claims leave out baselines without all planned seeds: {', '.join(left_out)}."
            )
        if items := max((one.items_left_out for one in table.on(task).values()), default=0):
            notes.append(f"{task}: items left out because some run has no score for them: up to {items}.")
    for same in table.same_runs:
        notes.append(
            f"{same['task']}: the runs of {', '.join(same['arms'])} are identical to the last answer: with "
            "these settings they are one method, and count once."
        )
    if words := _analyses(plan):
        notes.append(words)
    if plan.exploratory:
        notes.append(f"Exploratory arms, which are part of no claim: {', '.join(plan.exploratory)}.")
    return notes


def _alpha(plan: Plan) -> float:
    """What each analysis may err with, so that all together err with ``ALPHA`` (Bonferroni)."""
    return ALPHA / plan.analyses


def _analyses(plan: Plan) -> str | None:
    """What more than one analysis means here, in words; None where there is one, of all seeds."""
    judged, all_ = len(plan.judged_seeds), len(plan.seeds)
    planned = f"{plan.analyses} analyses were planned" if plan.analyses > 1 else "one analysis was planned"
    if judged < all_:
        return (
            f"Verdicts are those of the first {judged} seeds: the other {all_ - judged} were added after "
            f"results could be seen, and {planned}. They are in the arms' figures but do not affect the "
            "verdict."
        )
    if plan.analyses > 1:
        return (
            f"{planned[0].upper()}{planned[1:]}, of which this is number {len(plan.seeds_before) + 1}: "
            f"the error rate of each is {_alpha(plan):.3g}."
        )
    return None
