"""A value that may be absent is read as absent: steps and evaluations in which rewards are missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.runs import tiny_spec, write_rows
from trainer.api import train
from trainer.errors import GraderFailed
from trainer.graders.grade import Grade
from trainer.spec.algorithm import Dapo, Grpo
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Event, MessageEvent, Rollouts, StepMetrics
from trainer.spec.run import DiagnosticsSpec, RolloutSpec, RunSpec

PROMPTS, SAMPLES = 2, 4
BATCH = PROMPTS * SAMPLES


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> RunSpec:
    return tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        grader=None,
        validation_data=None,
        rollout=RolloutSpec(prompts_per_step=PROMPTS, samples_per_prompt=SAMPLES, max_response_tokens=6),
        diagnostics=DiagnosticsSpec(interval=2),
        total_steps=3,
    )


def metrics_of(events: list[Event]) -> dict[int, dict[str, float]]:
    return {event.step: event.values for event in events if isinstance(event, StepMetrics)}


def graded_unless(absent: Callable[[int], bool]) -> Callable[[dict[str, Any], str], Grade]:
    """A reward by the response's text; none for the responses whose number ``absent`` holds for."""
    count = -1

    def reward(item: dict[str, Any], text: str) -> Grade:
        nonlocal count
        count += 1
        return Grade(None, error="abstained") if absent(count) else Grade((len(set(text)) % 5) / 4)

    return reward


@pytest.mark.parametrize("mode", ["N", "H"])
def test_a_step_in_which_one_mode_has_no_reward_trains_on_the_other(spec: RunSpec, tmp_path: Path, mode: str):
    """The first half of each prompt's responses is the normal mode's."""
    first = {"N": 0, "H": SAMPLES // 2}[mode]
    half = range(first, first + SAMPLES // 2)
    spec = spec.model_copy(update={"diagnostics": DiagnosticsSpec(interval=0)})
    events: list[Event] = []
    result = train(spec, tmp_path / "run", graded_unless(lambda n: n % SAMPLES in half), events.append)
    assert result.finished
    for values in metrics_of(events).values():
        assert f"train/{mode}/reward" not in values
        assert 0 <= values[f"train/{'H' if mode == 'N' else 'N'}/reward"] <= 1
        assert f"train/{mode}/entropy_nats" in values
        assert values["train/grader_errors"] == BATCH / 2


@pytest.mark.parametrize("algorithm", [Grpo(), Dapo(resampling_rounds=1)])
def test_a_prompt_without_any_reward_teaches_nothing(spec: RunSpec, tmp_path: Path, algorithm):
    spec = spec.model_copy(update={"algorithm": algorithm})
    events: list[Event] = []
    result = train(spec, tmp_path / "run", graded_unless(lambda n: n % BATCH < SAMPLES), events.append)
    assert result.finished
    assert [values["train/grader_errors"] >= SAMPLES for values in metrics_of(events).values()] == [True] * 3


def test_an_evaluation_without_any_reward_is_told_and_the_run_goes_on(spec: RunSpec, tmp_path: Path):
    """After the first step the grader fails on all that is evaluated; before it, that ends the run."""
    spec = spec.model_copy(
        update={
            "validation_data": spec.training_data,
            "evaluation": EvaluationSpec(max_items=2, interval=1),
            "diagnostics": DiagnosticsSpec(interval=0),
        }
    )
    evaluated = 2 * 2  # both modes
    later = graded_unless(lambda n: n >= evaluated and (n - evaluated) % (BATCH + evaluated) >= BATCH)
    events: list[Event] = []
    assert train(spec, tmp_path / "run", later, events.append).finished
    values = metrics_of(events)
    assert "eval/N/reward" in values[0]
    for step in (1, 2, 3):
        assert "eval/N/reward" not in values[step]
        assert values[step]["eval/grader_errors"] == evaluated
        assert values[step]["eval/N/length"] > 0
    said = [e.message for e in events if isinstance(e, MessageEvent) and e.level == "warn"]
    assert f"evaluation after step 2: left out {evaluated} responses that the grader failed on" in said
    with pytest.raises(GraderFailed, match="abstained"):
        train(spec, tmp_path / "other", graded_unless(lambda n: n < evaluated))


def test_the_answers_that_end_a_run_are_kept(spec: RunSpec, tmp_path: Path):
    spec = spec.model_copy(update={"diagnostics": DiagnosticsSpec(interval=0)})
    events: list[Event] = []
    with pytest.raises(GraderFailed, match="abstained"):
        train(spec, tmp_path / "run", graded_unless(lambda n: n >= BATCH), events.append)
    first, last = (event for event in events if isinstance(event, Rollouts))
    assert (first.step, last.step) == (1, 2)
    assert len(last.rollouts) == BATCH
    assert all(one.reward is None and one.token_texts for one in last.rollouts)
