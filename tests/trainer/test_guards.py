"""Runs that can only waste the machine are stopped, with the number that says why; noisy ones are not."""

import math
import random
from pathlib import Path

import pytest
import torch

from tests.fixtures.runs import events_of, run_main, tiny_spec, write_rows
from trainer.checkpoints.checkpoint import Counters
from trainer.errors import GuardTripped
from trainer.loop import Run
from trainer.model.policy import load_policy
from trainer.spec.events import CheckpointSaved, EventWriter, Failed, MessageEvent, StepMetrics
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, Guards, OptimizerSpec
from trainer.steps.guards import (
    MIN_HISTORY,
    PATIENCE,
    WARN_AFTER,
    WINDOW,
    Alarm,
    Estimate,
    ModeStep,
    batch_mean,
    check_finite,
    observe_modes,
    watch,
)
from trainer.types import Group, Rollout

N, H = Mode.NORMAL, Mode.HIGH_ENTROPY
#: Standard errors of a step of 24 responses.
ENTROPY_ERROR, REWARD_ERROR = 0.05, 0.03


@pytest.mark.parametrize(
    ("loss", "norm", "named"),
    [(math.nan, 1.0, "loss of step 7 is nan"), (0.1, math.inf, "gradient norm of step 7 is inf")],
)
def test_what_is_not_finite_is_named(loss: float, norm: float, named: str):
    with pytest.raises(GuardTripped, match=named):
        check_finite(7, loss, norm)
    check_finite(7, 0.1, 1.0)


def step(entropy: float, reward: float) -> ModeStep:
    return ModeStep(Estimate(entropy, ENTROPY_ERROR), Estimate(reward, REWARD_ERROR))


def alarms(trace: list[tuple[float, float]], counters: Counters | None = None) -> list[tuple[int, Alarm]]:
    """Of a trace of (entropy, reward), each alarm with its step, from 1."""
    counters = counters or Counters()
    return [
        (number, alarm)
        for number, (entropy, reward) in enumerate(trace, start=1)
        for alarm in watch(number, counters, {N: step(entropy, reward)})
    ]


def noisy(steps: int, seed: int, entropy: float = 0.34, reward: float = 0.95) -> list[tuple[float, float]]:
    """A healthy run of small batches: a quarter of its steps have an outlier, entropy up and reward down."""
    draw = random.Random(seed)
    trace = []
    for _ in range(steps):
        out = draw.random() < 0.25
        trace.append(
            (
                entropy * math.exp(draw.gauss(0, 0.25)) + (draw.uniform(0.4, 1.0) if out else 0),
                min(1.0, reward + draw.gauss(0, 0.03)) - (draw.uniform(0.1, 0.3) if out else 0),
            )
        )
    return trace


def test_one_step_of_chance_gives_no_alarm():
    """As it was seen: 24 responses with entropy 1.11 against a median of 0.34, reward 0.83 against 0.98."""
    assert alarms([(0.34, 0.98)] * 24 + [(1.11, 0.83)] + [(0.34, 0.98)] * 24) == []


@pytest.mark.parametrize("seed", range(8))
def test_noisy_but_healthy_runs_are_never_ended(seed: int):
    assert not any(alarm.lasts for _, alarm in alarms(noisy(400, seed)))


def grown(factor: float, steps: int) -> list[tuple[float, float]]:
    return [(0.4 * factor**n, max(0.0, 0.9 - 0.03 * n)) for n in range(steps)]


@pytest.mark.parametrize(
    "trace",
    [
        [(2.5, 0.2)] * 12,
        [(0.9, 0.6)] * 12,
        grown(1.15, 40),
        [(0.4 + 0.2 * n, 0.9 - 0.05 * n) for n in range(15)],
        [(1.0 + (n % 2), 0.5 - 0.1 * (n % 3)) for n in range(12)],
    ],
    ids=["at once", "by little more than twice", "by 15 % a step", "in a line", "and wild"],
)
@pytest.mark.parametrize("seed", range(3))
def test_diverging_runs_are_warned_of_and_then_ended(trace: list[tuple[float, float]], seed: int):
    draw = random.Random(seed)
    before = [(draw.gauss(0.4, 0.03), min(1.0, draw.gauss(0.9, 0.03))) for _ in range(25)]
    found = alarms(before + trace)
    ended = next(number for number, alarm in found if alarm.lasts)
    warned = next(number for number, alarm in found if not alarm.told)
    assert len(before) < warned < ended <= len(before) + len(trace)
    assert ended - warned == PATIENCE - WARN_AFTER


def test_an_alarm_says_the_numbers_and_is_new_twice():
    found = alarms([(1.0, 0.5)] * 20 + [(2.1, 0.2)] * 8)
    assert [number for number, _ in found] == [22, 23, 24, 25, 26, 27, 28]
    assert [number for number, alarm in found if not alarm.told] == [22, 25]
    assert [number for number, alarm in found if alarm.lasts] == [25, 26, 27, 28]
    assert "step 25: for 5 steps the entropy of mode N" in found[3][1].message
    assert "now 2.100 nats against a median of 1.000" in found[3][1].message
    assert "now 0.200 against 0.500" in found[3][1].message


@pytest.mark.parametrize(
    ("entropy", "reward"),
    [(2.1, 0.45), (1.9, 0.1), (0.1, 0.0)],
    ids=["the reward holds", "the entropy has not doubled", "the entropy falls"],
)
def test_anything_less_gives_no_alarm(entropy: float, reward: float):
    assert alarms([(1.0, 0.5)] * 20 + [(entropy, reward)] * 20) == []


def test_what_the_noise_of_the_batch_explains_gives_no_alarm():
    counters = Counters()
    rough = ModeStep(Estimate(2.5, 0.6), Estimate(0.2, 0.15))
    for number in range(20):
        watch(number, counters, {N: step(1.0, 0.5)})
    assert not any(watch(20 + n, counters, {N: rough}) for n in range(20))


def test_the_first_steps_and_the_other_mode_are_no_yardstick():
    assert alarms([(1.0, 0.5)] * (MIN_HISTORY - 1) + [(9.0, 0.0)] * 2) == []
    counters = Counters()
    alarms([(1.0, 0.5)] * 20, counters)
    assert not any(watch(21 + n, counters, {H: step(9.0, 0.0)}) for n in range(9))


def test_the_history_is_that_of_the_last_steps_that_were_not_suspect():
    counters = Counters()
    alarms([(1.0, 0.5)] * 3 * WINDOW + [(3.0, 0.1)] * 9, counters)
    assert counters.entropy_history["N"] == [1.0] * WINDOW
    assert counters.reward_history["N"] == [0.5] * WINDOW


def test_a_step_that_says_nothing_of_a_mode_is_passed_over():
    counters = Counters()
    alarms([(1.0, 0.5)] * 20 + [(3.0, 0.1)] * (PATIENCE - 1), counters)
    assert watch(30, counters, {}) == []
    (alarm,) = watch(31, counters, {N: step(3.0, 0.1)})
    assert alarm.lasts


def group(index: int, rewards: list[float | None], modes: list[Mode], lengths: list[int]) -> Group:
    rollouts = [
        Rollout(mode, [1] * length, [0.0] * length, truncated=False, reward=reward)
        for reward, mode, length in zip(rewards, modes, lengths, strict=True)
    ]
    return Group(index, index, {}, [], {}, rollouts)


def test_a_mode_without_rewards_or_scores_is_absent():
    one = group(0, [None, None, 0.5, 1.0], [N, N, H, H], [1, 2, 1, 2])
    dropped = group(1, [0.0, None, 0.0, None], [N, N, H, H], [1, 1, 1, 1])
    seen = observe_modes([one, dropped], {0: torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])})
    assert seen[N].entropy.mean == 2.0  # its reward is that of the group that taught nothing
    assert seen[N].reward.mean == 0.0
    assert (seen[H].entropy.mean, seen[H].reward.mean) == (5.0, 0.5)
    assert observe_modes([one], {0: torch.full((6,), math.nan)}) == {}
    assert observe_modes([group(0, [None] * 2, [N, N], [1, 1])], {0: torch.ones(2)}) == {}


def test_the_error_of_a_mean_takes_prompts_as_the_unit():
    """Against the closed form for prompts of equal size, and a large draw of unequal ones."""
    same = [torch.tensor([value] * 4) for value in (0.1, 0.5, 0.9)]
    found = batch_mean(same)
    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert found.error == pytest.approx(torch.tensor([0.1, 0.5, 0.9]).double().std().item() / math.sqrt(3))
    torch.manual_seed(0)

    def sample() -> list[torch.Tensor]:
        return [torch.randn(()) + 0.1 * torch.randn(int(torch.randint(2, 9, ()))) for _ in range(12)]

    found = [batch_mean(sample()) for _ in range(400)]
    means = torch.tensor([one.mean for one in found if one is not None])
    errors = torch.tensor([one.error for one in found if one is not None])
    assert float(errors.mean()) == pytest.approx(float(means.std()), rel=0.1)
    alone = batch_mean([torch.tensor([0.0, 1.0])])
    assert alone is not None
    assert alone.error == pytest.approx(math.sqrt(0.5) / math.sqrt(2))
    assert batch_mean([torch.tensor([])]) is None
    assert batch_mean([torch.tensor([3.0])]) == Estimate(3.0, 0.0)


@pytest.mark.parametrize("guards", ["stop", "warn", "off"])
def test_a_mode_that_falls_apart_ends_the_run_with_a_checkpoint_where_it_may(
    tiny_model: Path, tmp_path: Path, guards: Guards
):
    """Of a run that once was far surer and far better."""
    quiet = DiagnosticsSpec(interval=0)
    data = write_rows(tmp_path / "data.jsonl")
    spec = tiny_spec(tiny_model, data, guards=guards, validation_data=None, total_steps=7, diagnostics=quiet)
    spec = spec.model_copy(update={"checkpoint": CheckpointSpec(interval=100)})
    with EventWriter(tmp_path / "run" / "events.jsonl") as events:
        run = Run(spec, tmp_path / "run", events)
        run.counters.entropy_history = {"N": [1e-3] * WINDOW}
        run.counters.reward_history = {"N": [5.0] * WINDOW}
        if guards == "stop":
            with pytest.raises(GuardTripped, match=r"step 5: for 5 steps .* checkpoint of this step"):
                run.run()
        else:
            assert run.run()
    told = events_of(tmp_path / "run")
    warnings = [e.message for e in told if isinstance(e, MessageEvent) and e.level == "warn"]
    steps = [int(message.split()[1].rstrip(":")) for message in warnings]
    assert steps == {"stop": [2], "warn": [2, 5], "off": []}[guards]
    (saved,) = [e for e in told if isinstance(e, CheckpointSaved)]
    assert saved.step == (5 if guards == "stop" else 7)
    assert load_policy(ModelSpec(path=str(tmp_path / "run" / saved.path)), "").stop_ids


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
    assert run_main(spec, tmp_path / "run") == 1
    events = events_of(tmp_path / "run")
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "training_diverged"
    assert "training cannot continue" in failed.message
    assert any(isinstance(event, StepMetrics) for event in events)
