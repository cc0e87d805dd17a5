"""The trainer as a library: the documented example, reward functions, and what goes wrong in them."""

import doctest
import threading
from pathlib import Path

import pytest

import trainer.api
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import Grade, train
from trainer.errors import GraderFailed, InvalidSpec
from trainer.graders.custom import function_grader
from trainer.spec.events import Failed, Finished, MessageEvent, Rollouts, StepMetrics
from trainer.spec.run import DiagnosticsSpec, RunSpec


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> RunSpec:
    data = write_rows(tmp_path / "data.jsonl")
    # The probes of diagnostics would ask for rewards, too.
    quiet = DiagnosticsSpec(interval=0)
    return tiny_spec(tiny_model, data, grader=None, validation_data=None, diagnostics=quiet, total_steps=2)


def test_the_example_in_the_documentation_runs(tiny_model: Path, tmp_path: Path):
    found = doctest.DocTestFinder().find(
        trainer.api, extraglobs={"folder": str(tmp_path), "model_folder": str(tiny_model)}
    )
    runner = doctest.DocTestRunner()
    assert sum(runner.run(test).attempted for test in found) > 5
    assert runner.summarize(verbose=False).failed == 0


def test_the_reward_is_that_of_the_function(spec: RunSpec, tmp_path: Path):
    """It sees the row without its messages, and a Grade carries scores beside the reward."""
    seen: list[tuple[dict, str]] = []

    def reward(item: dict, text: str) -> Grade:
        seen.append((item, text))
        return Grade(len(text) / 1000, {"letters": float(sum(map(str.isalpha, text)))})

    events = []
    result = train(spec, tmp_path / "run", reward, on_event=events.append)
    assert (result.finished, result.step) == (True, 2)
    assert events == events_of(tmp_path / "run")
    records = [record for event in events if isinstance(event, Rollouts) for record in event.rollouts]
    assert [record.response for record in records] == [text for _, text in seen]
    for record, (item, text) in zip(records, seen, strict=True):
        assert record.reward == pytest.approx(len(text) / 1000)
        assert record.scores == {"letters": float(sum(map(str.isalpha, text)))}
        assert item.keys() == {"messages", "letter"}


def test_failures_of_the_function_are_errors_and_never_zeros(spec: RunSpec, tmp_path: Path):
    calls = 0

    def reward(item: dict, text: str) -> float:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise KeyError("no such answer")
        return 1.0 if calls % 2 else 0.0

    events = []
    train(spec, tmp_path / "run", reward, on_event=events.append)
    for metrics in (e for e in events if isinstance(e, StepMetrics)):
        assert metrics.values["train/grader_errors"] == 4  # of 12 responses
    rewards = [record.reward for e in events if isinstance(e, Rollouts) for record in e.rollouts]
    assert [reward is None for reward in rewards] == [n % 3 == 2 for n in range(24)]
    told = [e.message for e in events if isinstance(e, MessageEvent)]
    assert any("the reward function failed: KeyError: 'no such answer'" in message for message in told)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1.5, "gave 1.5; a reward must be from 0 to 1"),
        (float("nan"), "gave nan"),
        (None, "TypeError"),
        ("often", "ValueError"),
        (Grade(None), "returned no reward"),
        (Grade(-1.0), "gave -1; a reward must be from 0 to 1"),
        (Grade(None, error="the judge is away"), "the judge is away"),
    ],
)
def test_what_is_no_reward_is_an_error(value, says: str):
    grade = function_grader(lambda item, text: value)({}, "text")
    assert grade.reward is None
    assert grade.error is not None and says in grade.error


@pytest.mark.parametrize("value", [0, 1, True, 0.25])
def test_numbers_from_0_to_1_are_rewards(value):
    assert function_grader(lambda item, text: value)({}, "text") == Grade(float(value))


def test_a_function_that_always_fails_ends_the_run_with_its_reason(spec: RunSpec, tmp_path: Path):
    def reward(item: dict, text: str) -> float:
        return item["lettre"]

    with pytest.raises(GraderFailed, match="KeyError: 'lettre'"):
        train(spec, tmp_path / "run", reward)
    failed = events_of(tmp_path / "run")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "grader_failed"


def test_there_is_exactly_one_source_of_rewards(tiny_model: Path, spec: RunSpec, tmp_path: Path):
    with pytest.raises(InvalidSpec, match=r"grader is null.*reward function") as caught:
        train(spec, tmp_path / "run")
    assert caught.value.param == "grader"
    both = tiny_spec(tiny_model, tmp_path / "data.jsonl")
    with pytest.raises(InvalidSpec, match="'string_check', but a reward function"):
        train(both, tmp_path / "run", lambda item, text: 1.0)
    with pytest.raises(ValueError, match="grader\n  Field required"):
        RunSpec.model_validate(spec.model_dump(exclude={"grader"}))


def test_a_stopped_run_is_gone_on_with_by_the_same_call(spec: RunSpec, tmp_path: Path):
    def reward(item: dict, text: str) -> float:
        return float(item["letter"] in text)

    stop = threading.Event()
    first = train(spec, tmp_path / "run", reward, lambda event: stop.set(), stop)
    assert (first.finished, first.step, first.checkpoint) == (False, 0, None)
    second = train(spec, tmp_path / "run", reward)
    assert second.checkpoint == tmp_path / "run/checkpoints/step-2"
    assert isinstance(events_of(tmp_path / "run")[-1], Finished)
