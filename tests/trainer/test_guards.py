"""Runs that can only waste the machine are stopped, with the number that says why."""

import math
from pathlib import Path

import pytest

from tests.fixtures.runs import events_of, tiny_spec, trainer_process, write_rows
from trainer.checkpoint import Counters
from trainer.errors import GuardTripped
from trainer.events import Failed, StepMetrics
from trainer.guards import MIN_HISTORY, WINDOW, check_collapse, check_finite
from trainer.spec import OptimizerSpec


@pytest.mark.parametrize(
    ("loss", "norm", "named"),
    [(math.nan, 1.0, "loss of step 7 is nan"), (0.1, math.inf, "gradient norm of step 7 is inf")],
)
def test_what_is_not_finite_is_named(loss: float, norm: float, named: str):
    with pytest.raises(GuardTripped, match=named):
        check_finite(7, loss, norm)
    check_finite(7, 0.1, 1.0)


def history(entropy: float, reward: float, steps: int) -> Counters:
    counters = Counters()
    for step in range(steps):
        check_collapse(step, counters, "N", entropy, reward)
    return counters


def test_doubled_entropy_with_a_falling_reward_stops_the_run():
    with pytest.raises(GuardTripped, match=r"entropy of mode N is 2\.100 .* median of 1\.000"):
        check_collapse(20, history(1.0, 0.5, 20), "N", 2.1, 0.3)


@pytest.mark.parametrize(
    ("entropy", "reward"),
    [(2.1, 0.45), (1.9, 0.1), (0.1, 0.0)],
    ids=["the reward holds", "the entropy has not doubled", "the entropy falls"],
)
def test_anything_less_does_not(entropy: float, reward: float):
    check_collapse(20, history(1.0, 0.5, 20), "N", entropy, reward)


def test_the_first_steps_and_the_other_mode_are_no_yardstick():
    check_collapse(MIN_HISTORY - 1, history(1.0, 0.5, MIN_HISTORY - 1), "N", 9.0, 0.0)
    check_collapse(20, history(1.0, 0.5, 20), "H", 9.0, 0.0)


def test_the_median_is_that_of_the_last_steps():
    counters = history(1.0, 0.5, 3 * WINDOW)
    assert len(counters.entropy_history["N"]) == len(counters.reward_history["N"]) == WINDOW


def test_a_diverging_run_fails_with_the_reason_and_keeps_what_it_told(tiny_model: Path, tmp_path: Path):
    """Weights that grow ten-thousandfold each step make the loss of a later step not finite."""
    data = write_rows(tmp_path / "data.jsonl")
    spec = tiny_spec(
        tiny_model,
        data,
        optimizer=OptimizerSpec(learning_rate=100, weight_decay=100),
        validation_data=None,
        diagnostics={"interval": 0},
    )
    process = trainer_process(spec, tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    events = events_of(tmp_path / "run")
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "training_diverged"
    assert "training cannot go on" in failed.message
    assert any(isinstance(event, StepMetrics) for event in events)
