"""Runs of an eval side by side: what each came to, and how far they differ, item by item.

Runs are paired by item, whatever its place in their sources; of an item that a run has several times the mean
counts. Items that one of two runs could not be told of are left out of both. The tests are those of two
models on the same items (``trainer.statistics.paired``), corrected over all pairs that are shown.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.core.db import read_session
from app.core.description import Kind
from app.core.errors import BadRequest
from app.core.strict_json import JsonObject
from app.core.tables import Eval, EvalRun
from app.core.validation import abbreviated, one_of
from app.evals import repository
from app.evals.repository import Outcome
from app.evals.runs import found_run
from app.evals.schemas import RunStatus
from app.evals.service import found
from app.evals.status import is_terminal

MAX_RUNS = 10
PASSED = "passed"
#: Signs that are drawn for a comparison, at most; with many items there are fewer draws of all signs.
_SIGNS = 200_000_000

Values = dict[str, float]
"""By item; one without a value is not in it."""


class ComparedRun(BaseModel):
    """The result of one run."""

    run_id: str = Field(description="Which one of the eval's runs this is")
    name: str = Field(description="What you call it")
    model: str = Field(description="The model it evaluates; empty if the rows contain the answers")
    mode: str | None = Field(description="The mode the model answers in; null if it has none")
    status: RunStatus = Field(description="Its status; there is no verdict until it has ended")
    items: int = Field(description="Number of distinct items with a value")
    items_left_out: int = Field(description="Number of distinct items without a value")
    mean: float | None = Field(description="The metric, averaged over items; null if there are none")
    low: float | None = Field(
        description="Lower end of its 95 % interval over items; null if there are no items"
    )
    high: float | None = Field(description="Upper end of that interval; null if there are no items")


class ComparedPair(BaseModel):
    """A run compared with the baseline."""

    run_id: str = Field(description="The one of the eval's runs that is compared")
    baseline: str = Field(description="The one of the eval's runs it is compared with: the first")
    items: int = Field(description="Number of distinct items with a value in both")
    items_left_out: int = Field(description="Number of distinct items of either run that are not among these")
    delta: float | None = Field(
        description="The run minus the baseline, averaged over items; null if there are none"
    )
    low: float | None = Field(description="Lower end of the interval that matches holm_p; null if unknown")
    high: float | None = Field(description="Upper end of that interval; null if unknown")
    interval_level: float | None = Field(
        description="Confidence from low to high, between 0 and 1; null if there are no items"
    )
    p: float | None = Field(
        description="Two-sided p-value of the sign-flip test over items; null if there are no items"
    )
    holm_p: float | None = Field(description="p after Holm's correction over all pairs shown here")
    separated: bool = Field(description="Whether the difference is significant: holm_p is at most 0.05")
    better: str | None = Field(description="The better of the two runs if they are separated")
    words: str = Field(description="The result in a sentence")


class EvalComparison(BaseModel):
    """Runs of an eval side by side."""

    object: Kind[Literal["eval.comparison"]]
    eval_id: str = Field(description="The eval the runs belong to")
    metric: str = Field(description="What is compared: passed, or the name of a criterion")
    runs: list[ComparedRun] = Field(description="The result of each run, in the order requested")
    pairs: list[ComparedPair] = Field(description="Each further run compared with the first")
    notes: list[str] = Field(description="Remarks on how to read the results")


def compare(project_id: str, eval_id: str, run_ids: Sequence[str] | None, metric: str) -> JsonObject:
    """An :class:`EvalComparison`; raises NotFound and BadRequest."""
    with read_session() as session:
        of = found(session, project_id, eval_id)
        criterion = _criterion(of, metric)
        rows = _runs(session, project_id, of, run_ids)
        outcomes = {row.id: repository.outcomes(session, row.id) for row in rows}
    values = {row.id: _values(outcomes[row.id], criterion) for row in rows}
    keys = {row.id: {key for key, _, _ in outcomes[row.id]} for row in rows}
    return {
        "object": "eval.comparison",
        "eval_id": eval_id,
        "metric": metric,
        "runs": [_run(row, values[row.id], len(keys[row.id])) for row in rows],
        "pairs": _pairs(rows, values, keys) if len(rows) > 1 else [],
        "notes": _notes(rows, keys),
    }


def _criterion(of: Eval, metric: str) -> int | None:
    """Which criterion the metric is of; None: whether items pass."""
    if metric == PASSED:
        return None
    names = [one["name"] for one in of.testing_criteria]
    if metric not in names:
        raise BadRequest(
            f"Invalid value for 'metric': {abbreviated(metric)}. It should be one of: "
            f"{one_of([PASSED, *names], metric)}.",
            param="metric",
        )
    return names.index(metric)


def _runs(session: Session, project_id: str, of: Eval, run_ids: Sequence[str] | None) -> list[EvalRun]:
    if run_ids is None:
        return list(
            repository.runs(session, of.id, after=None, limit=MAX_RUNS, order="asc", status="completed")
        )
    if len(set(run_ids)) != len(run_ids) or not 1 <= len(run_ids) <= MAX_RUNS:
        raise BadRequest(
            f"Invalid value for 'runs': {len(run_ids)} ids, {len(set(run_ids))} of them different. Give 1 to "
            f"{MAX_RUNS} different ones, as runs=…&runs=….",
            param="runs",
        )
    return [found_run(session, project_id, of.id, run_id) for run_id in run_ids]


def _values(outcomes: Sequence[Outcome], criterion: int | None) -> Values:
    by_key: dict[str, list[float]] = {}
    for key, status, rewards in outcomes:
        if criterion is None:
            value = None if status == "error" else float(status == "pass")
        else:
            value = rewards[criterion]
        if value is not None:
            by_key.setdefault(key, []).append(value)
    return {key: sum(some) / len(some) for key, some in by_key.items()}


def _run(row: EvalRun, values: Values, items: int) -> JsonObject:
    # scipy takes most of a second to import, which the start and all other requests should not wait for.
    import numpy as np

    from trainer.statistics.paired import interval_over_items
    from trainer.statistics.ranges import SHARE

    told: JsonObject = dict.fromkeys(("mean", "low", "high"))
    if values:
        interval = interval_over_items(np.array(list(values.values())), SHARE)
        told = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {
        "run_id": row.id,
        "name": row.name,
        "model": row.model,
        "mode": row.mode,
        "status": row.status,
        "items": len(values),
        "items_left_out": items - len(values),
        **told,
    }


def _pairs(rows: Sequence[EvalRun], values: dict[str, Values], keys: dict[str, set[str]]) -> list[JsonObject]:
    import numpy as np

    from trainer.statistics.paired import compare_several
    from trainer.statistics.permutation import DRAWS
    from trainer.statistics.ranges import SHARE, of_difference

    baseline, *others = rows
    of_baseline = values[baseline.id]
    # Sorted, so that the same runs are compared to the bit whatever order their items came in.
    shared = [sorted(of_baseline.keys() & values[one.id].keys()) for one in others]
    arrays = [
        (np.array([values[one.id][key] for key in both]), np.array([of_baseline[key] for key in both]))
        for one, both in zip(others, shared, strict=True)
    ]
    draws = min(DRAWS, max(1_000, _SIGNS // max(1, *map(len, shared))))
    judged = compare_several(arrays, bounds=of_difference(SHARE), draws=draws)
    return [
        _pair(one, baseline, found, len(keys[one.id] | keys[baseline.id]) - len(both))
        for one, found, both in zip(others, judged, shared, strict=True)
    ]


def _pair(run: EvalRun, baseline: EvalRun, judged: Any, left_out: int) -> JsonObject:
    told: JsonObject = {"run_id": run.id, "baseline": baseline.id, "items_left_out": left_out}
    nothing = ("delta", "low", "high", "interval_level", "p", "holm_p", "better")
    if judged is None:
        words = f"{run.name} and {baseline.name} have no item in common."
        return told | dict.fromkeys(nothing) | {"items": 0, "separated": False, "words": words}
    separated = judged.separated and is_terminal(run.status) and is_terminal(baseline.status)
    comparison = judged.comparison
    better = (run if comparison.delta > 0 else baseline) if separated else None
    return told | {
        "items": comparison.items,
        "delta": comparison.delta,
        **judged.adjusted.ends(),
        "interval_level": 1 - judged.adjusted_alpha,
        "p": comparison.p,
        "holm_p": judged.holm_p,
        "separated": separated,
        "better": None if better is None else better.id,
        "words": _words(run, baseline, judged, better),
    }


def _words(run: EvalRun, baseline: EvalRun, judged: Any, better: EvalRun | None) -> str:
    from trainer.statistics.wording import with_interval

    level = f", {100 * (1 - judged.adjusted_alpha):.4g} % CI"
    found = with_interval(judged.comparison.delta, judged.adjusted.low, judged.adjusted.high, level)
    numbers = f"{found}, Holm p = {judged.holm_p:.4g}"
    if better is None:
        return f"{run.name} and {baseline.name} are not separated: {numbers}."
    worse = baseline if better is run else run
    return f"{better.name} is better than {worse.name}; {run.name} minus {baseline.name}: {numbers}."


def _notes(rows: Sequence[EvalRun], keys: dict[str, set[str]]) -> list[str]:
    notes = [
        f"{row.name} is {row.status}: there is no verdict until it has ended."
        for row in rows
        if not is_terminal(row.status)
    ]
    notes += [
        f"The items of {row.name} have expired; only its counts remain."
        for row in rows
        if not keys[row.id] and row.passed + row.failed + row.errored
    ]
    if len(rows) > 1:
        notes.append(
            "The test is whether these models differ on items like these, each answered once; it says "
            "nothing about other trainings with the same method."
        )
    return notes
