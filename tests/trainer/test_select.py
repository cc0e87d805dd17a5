"""Which checkpoint is a run's result: the best by a validation metric, or the last; also when resumed."""

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.checkpoints.checkpoint import Score, superseded
from trainer.graders.spec import StringCheckGrader
from trainer.spec.algorithm import Grpo
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import CheckpointSaved, Finished, StepMetrics
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec, RunSpec

ITEMS, BATCH = 2, 4
#: Rewards of the evaluations before training and after each step.
COURSE = [0.1, 0.3, 0.9, 0.5, 0.4]


#: Knows no answers: what else a text says, differs.
LIKE: dict[str, Any] = {"input": "{{sample.output_text}}", "reference": "a", "operation": "like"}


def spec_of(model: Path, tmp_path: Path, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "grader": None,
        "algorithm": Grpo(),
        "rollout": RolloutSpec(prompts_per_step=2, samples_per_prompt=2, max_response_tokens=4),
        "evaluation": EvaluationSpec(interval=1, max_items=ITEMS),
        "checkpoint": CheckpointSpec(interval=1, keep_best=1),
        "diagnostics": DiagnosticsSpec(interval=0),
        "total_steps": len(COURSE) - 1,
    }
    return tiny_spec(model, write_rows(tmp_path / "rows.jsonl"), **(fields | changes))


def on_course(done: int = 0):
    """A reward by what is graded: a step's batch, then an evaluation whose mean is on ``COURSE``."""
    count = -1 if done == 0 else -1 + ITEMS + done * (BATCH + ITEMS)

    def reward(item: dict[str, Any], text: str) -> float:
        nonlocal count
        count += 1
        step, place = divmod(count + BATCH, BATCH + ITEMS)
        return COURSE[step] if place >= BATCH else (len(set(text)) % 3) / 2

    return reward


def finished(folder: Path) -> Finished:
    (event,) = [e for e in events_of(folder) if isinstance(e, Finished)]
    return event


def test_the_best_is_the_result_where_there_is_validation(tiny_model: Path, tmp_path: Path):
    result = train(spec_of(tiny_model, tmp_path), tmp_path / "run", on_course())
    assert result.checkpoint == tmp_path / "run/checkpoints/step-2"
    end = finished(tmp_path / "run")
    assert (end.step, end.result_step) == (4, 2)
    assert end.reason == "its eval/N/reward is the highest, 0.9, against 0.4 at the last step, 4"
    kept = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert kept == {"step-2", "step-4"}


@pytest.mark.parametrize("keep_best", [0, 1])
def test_a_run_that_was_cut_off_chooses_the_same(tiny_model: Path, tmp_path: Path, keep_best: int):
    checkpoint = CheckpointSpec(interval=1, keep_best=keep_best)
    spec = spec_of(tiny_model, tmp_path, checkpoint=checkpoint)
    stop = threading.Event()

    def until_step_3(event: Any) -> None:
        if isinstance(event, StepMetrics) and event.step == 3:
            stop.set()

    first = train(spec, tmp_path / "run", on_course(), until_step_3, stop)
    assert (first.finished, first.step) == (False, 3)
    assert first.checkpoint == tmp_path / "run/checkpoints/step-3"  # a pause leaves the newest
    second = train(spec, tmp_path / "run", on_course(done=3))
    assert second.checkpoint == tmp_path / "run/checkpoints/step-2"
    again = train(spec, tmp_path / "run", on_course())
    assert again.checkpoint == second.checkpoint
    ends = [e for e in events_of(tmp_path / "run") if isinstance(e, Finished)]
    assert [(end.result_step, end.reason) for end in ends] == [(2, ends[0].reason)] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"checkpoint": CheckpointSpec(interval=1, select="last")}, "it is the last one"),
        ({"checkpoint": CheckpointSpec(interval=1), "validation_data": None}, "it is the last one"),
        ({"checkpoint": CheckpointSpec()}, "its eval/N/reward is the highest, 0.4, and it is the last one"),
    ],
)
def test_the_last_is_the_result_otherwise(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], reason: str
):
    reward = on_course() if "validation_data" not in changes else (lambda item, text: (len(text) % 3) / 2)
    result = train(spec_of(tiny_model, tmp_path, **changes), tmp_path / "run", reward)
    assert result.checkpoint == tmp_path / "run/checkpoints/step-4"
    assert (finished(tmp_path / "run").result_step, finished(tmp_path / "run").reason) == (4, reason)


def test_a_checkpoint_has_the_metrics_of_its_own_evaluation_alone(tiny_model: Path, tmp_path: Path):
    """Those of an earlier one were of other weights."""
    spec = spec_of(tiny_model, tmp_path, evaluation=EvaluationSpec(interval=2, max_items=ITEMS))
    train(spec, tmp_path / "run", lambda item, text: (len(text) % 3) / 2)
    saved = {e.step: e.metrics for e in events_of(tmp_path / "run") if isinstance(e, CheckpointSaved)}
    assert {step: "eval/N/reward" in metrics for step, metrics in saved.items()} == {
        1: False,
        2: True,
        3: False,
        4: True,
    }


def test_what_was_evaluated_is_kept_before_what_was_not():
    scores = {1: Score(False, 0.9), 2: Score(True, 0.2), 3: Score(True, 0.3), 4: Score(False, 0.1)}
    assert superseded(scores, 2) == [1]
    assert superseded(scores, 0) == [1, 2, 3]
    tied = {step: Score(True, 0.5) for step in (1, 2, 3)}
    assert superseded(tied, 1) == [1, 2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checkpoint": {"select": "best"}, "validation_data": None}, "no validation data"),
        ({"checkpoint": {"metric": "eval/H/reward"}}, "only samples from the normal mode"),
        ({"checkpoint": {"metric": "eval/N/pass@8"}}, "powers of two up to 1"),
        (
            {"checkpoint": {"metric": "eval/N/maj@1"}, "grader": StringCheckGrader(**LIKE)},
            "'string_check' does not extract answers.*or give evaluation.embedding_model",
        ),
        ({"checkpoint": {"metric": "eval/N/length"}}, "string_pattern|String should match pattern"),
    ],
)
def test_a_metric_that_a_run_does_not_have_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], says: str
):
    with pytest.raises(ValidationError, match=says):
        spec_of(tiny_model, tmp_path, **changes)
