"""Every algorithm through a whole run: from JSON, with its metrics; resampling; exact resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.runs import events_of, reproducible, tiny_spec, write_rows
from trainer.algorithms import ALGORITHMS
from trainer.loop import Run
from trainer.spec.algorithm import AdaptiveEntropy, AlgorithmSpec, ClipCov, Dapo
from trainer.spec.events import EventWriter, MessageEvent, RolloutRecord, Rollouts, StepMetrics
from trainer.spec.run import CheckpointSpec, OptimizerSpec, RolloutSpec, RunSpec
from trainer.steps.resampling import collect_groups
from trainer.types import Group

COMMON = {
    "train/loss",
    "train/lr",
    "train/grad_norm",
    "train/weight_N",
    "train/zero_variance",
    "train/samples_generated",
    "train/tokens_generated",
    "train/tokens_trained",
    "train/tokens_per_second",
    "train/step_seconds",
    "time/generate",
    "time/score",
    "time/forward_backward",
} | {
    f"train/N/{name}"
    for name in (
        "reward",
        "length",
        "entropy_nats",
        "entropy_bits",
        "surprisal",
        "clipfrac_low",
        "clipfrac_high",
        "advantage_abs",
        "truncated",
    )
}
BONUS = {f"train/N/bonus_{name}" for name in ("abs", "max", "clipfrac")}
OWN: dict[str, set[str]] = {
    "dapo": {"train/sampling_rounds", "train/groups_dropped"},
    "entropy_bonus": {"train/entropy_coefficient"},
    "adaptive_entropy": {"train/entropy_coefficient"},
    "entropy_advantage": BONUS,
    "clip_cov": {"train/N/tokens_chosen"},
    "kl_cov": {"train/N/tokens_chosen"},
    "forking_tokens": {"train/N/tokens_chosen"},
}
# The tiny model's covariances are far below the band of a trained one.
OPTIONS: dict[str, dict[str, Any]] = {
    "clip_cov": {"band_low": 1e-6},
    "adaptive_entropy": {"target_entropy": 9.0},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl")


def run_in_process(spec: RunSpec, run_dir: Path) -> list:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    return events_of(run_dir)


def metrics_of(events: list) -> dict[int, dict[str, float]]:
    """By step, those that a run done again repeats."""
    return {event.step: reproducible(event) for event in events if isinstance(event, StepMetrics)}


def rollouts_of(events: list) -> dict[int, list[RolloutRecord]]:
    return {event.step: event.rollouts for event in events if isinstance(event, Rollouts)}


def short(tiny_model: Path, data: Path, algorithm: AlgorithmSpec | None = None, **changes: Any) -> RunSpec:
    settings = {"total_steps": 2, "validation_data": None, "checkpoint": CheckpointSpec()}
    return tiny_spec(tiny_model, data, algorithm, **(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "policy_split"])
def test_two_steps_from_json_with_the_names_of_their_metrics(
    tiny_model: Path, data: Path, tmp_path: Path, name: str
):
    """Two updates a batch, so that ratios leave 1; choosing ``type`` is enough."""
    document = json.loads(
        short(
            tiny_model, data, optimizer=OptimizerSpec(learning_rate=1e-3, updates_per_batch=2)
        ).model_dump_json()
    )
    document["algorithm"] = {"type": name, **OPTIONS.get(name, {})}
    spec = RunSpec.model_validate_json(json.dumps(document))
    assert spec.algorithm.type == name
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    events = run_in_process(spec, tmp_path / "run")
    steps = {e.step: e.values for e in events if isinstance(e, StepMetrics)}
    assert sorted(steps) == [1, 2]
    for values in steps.values():
        assert values.keys() >= COMMON | OWN.get(name, set())
        assert "rollout/importance_clipped" not in values  # the model that trains samples itself
        others = set().union(*OWN.values()) - OWN.get(name, set())
        assert not values.keys() & others
        assert not [metric for metric in values if "/H/" in metric]
    assert any(values["train/grad_norm"] > 0 for values in steps.values())
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "run/checkpoints/step-2/model.safetensors")
    assert any(not torch.equal(before[key], after[key]) for key in after)


@pytest.mark.parametrize("algorithm", ["dapo", "kl_cov", "cispo"])
def test_options_of_other_algorithms_are_refused(tiny_model: Path, data: Path, algorithm: str):
    document = short(tiny_model, data).model_dump(mode="json")
    document["algorithm"] = {"type": algorithm, "eta": 0.1}
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        RunSpec.model_validate(document)


def test_a_band_without_width_is_refused():
    with pytest.raises(ValueError, match="no token is in between"):
        ClipCov(band_low=5.0, band_high=5.0)


# --- dynamic resampling ------------------------------------------------------------------------------------


def collected(kept: set[int], wanted: int, rounds: int):
    """Groups by number, of which ``kept`` are worth training; and what was asked for."""
    asked: list[tuple[int, int]] = []

    def sample(first: int, count: int) -> list[Group]:
        asked.append((first, count))
        return [Group(index, index, {}, [], {}) for index in range(first, first + count)]

    found = collect_groups(sample, lambda g: g.index in kept, wanted=wanted, resampling_rounds=rounds)
    return [g.index for g in found.kept], [g.index for g in found.dropped], found.rounds, asked


def test_only_what_is_missing_is_sampled_again():
    assert collected({0, 2, 4, 5}, 4, 9) == ([0, 2, 4, 5], [1, 3], 2, [(0, 4), (4, 2)])
    assert collected({0, 1}, 2, 9) == ([0, 1], [], 1, [(0, 2)])


def test_resampling_is_bounded():
    assert collected(set(), 2, 0) == ([], [0, 1], 1, [(0, 2)])
    assert collected({5}, 2, 2) == ([5], [0, 1, 2, 3, 4], 3, [(0, 2), (2, 2), (4, 2)])


SOME = RolloutSpec(prompts_per_step=3, samples_per_prompt=4, max_response_tokens=24)


def test_dapo_replaces_groups_and_counts_what_it_generated(tiny_model: Path, data: Path, tmp_path: Path):
    """About half of the groups are flat here; the items go on where the step before stopped."""
    events = run_in_process(short(tiny_model, data, Dapo(), total_steps=3, rollout=SOME), tmp_path / "dapo")
    steps, rollouts = metrics_of(events), rollouts_of(events)
    plain = run_in_process(
        short(tiny_model, data, Dapo(resampling_rounds=0), total_steps=3, rollout=SOME), tmp_path / "one"
    )
    order: list[int] = []
    for step, records in rollouts.items():
        values = steps[step]
        groups: dict[int, list[RolloutRecord]] = {}
        for record in records:
            groups.setdefault(record.group, []).append(record)
        assert sorted(groups) == list(range(len(groups)))
        order += [members[0].item for _, members in sorted(groups.items())]
        kept = [members for members in groups.values() if not members[0].dropped]
        dropped = [members for members in groups.values() if members[0].dropped]
        assert len(kept) == 3
        assert all(len({r.reward for r in members}) > 1 for members in kept)
        assert all(len({r.reward for r in members}) == 1 for members in dropped)
        assert all(r.dropped and not r.entropies for members in dropped for r in members)
        assert values["train/groups_dropped"] == len(dropped)
        assert values["train/samples_generated"] == len(records) == 4 * len(groups)
        assert values["train/tokens_generated"] == sum(r.tokens for r in records)
        assert values["train/tokens_trained"] == sum(r.tokens for m in kept for r in m)
        # What is logged is the grader's reward over everything sampled.
        assert values["train/N/reward"] == pytest.approx(sum(r.reward or 0 for r in records) / len(records))
        assert values["train/zero_variance"] == pytest.approx(len(dropped) / len(groups))
    assert sum(values["train/groups_dropped"] for values in steps.values()) > 0
    # Every item once an epoch, in the same order as without resampling.
    assert sorted(order[:6]) == list(range(6))
    assert order[:3] == [r.item for r in rollouts_of(plain)[1] if r.index == 0]


def test_when_no_group_is_worth_training_nothing_changes(tiny_model: Path, tmp_path: Path):
    data = write_rows(tmp_path / "data.jsonl")
    rows = [{**json.loads(line), "letter": "never this"} for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = short(tiny_model, data, Dapo(resampling_rounds=1), total_steps=1, rollout=SOME)
    events = run_in_process(spec, tmp_path / "run")
    values = metrics_of(events)[1]
    assert values["train/groups_dropped"] == 6
    assert values["train/samples_generated"] == 24
    assert values["train/tokens_trained"] == values["train/grad_norm"] == 0
    assert all(record.dropped for record in rollouts_of(events)[1])
    said = [event.message for event in events if isinstance(event, MessageEvent)]
    assert any("after 2 rounds of sampling only 0 of 3 prompts" in message for message in said)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "run/checkpoints/step-1/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in after)


# --- resume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm",
    [
        AdaptiveEntropy(target_entropy=9.0, coefficient_step=0.02, max_coefficient=0.05),
        Dapo(),
        ClipCov(band_low=1e-6, share=0.1),
    ],
    ids=lambda spec: spec.type,
)
def test_a_cut_run_goes_on_bit_for_bit(tiny_model: Path, data: Path, tmp_path: Path, algorithm):
    """Controllers, the position in the items, and what is drawn among tokens."""
    spec = short(
        tiny_model, data, algorithm, total_steps=4, checkpoint=CheckpointSpec(interval=2), rollout=SOME
    )
    expected = run_in_process(spec, tmp_path / "whole")

    class Cut(Exception):
        pass

    class DyingWriter(EventWriter):
        def write(self, event):
            super().write(event)
            if isinstance(event, Rollouts) and event.step == 4:
                raise Cut

    with pytest.raises(Cut), DyingWriter(tmp_path / "cut/events-1.jsonl") as events:
        Run(spec, tmp_path / "cut", events).run()
    with EventWriter(tmp_path / "cut/events-2.jsonl") as events:
        resumed = Run(spec, tmp_path / "cut", events)
        assert resumed.counters.step == 2
        assert resumed.run()
    again = events_of(tmp_path / "cut", "events-2.jsonl")
    wanted = {step: values for step, values in metrics_of(expected).items() if step > 2}
    assert metrics_of(again) == wanted
    assert {k: v for k, v in rollouts_of(expected).items() if k > 2} == rollouts_of(again)
    if algorithm.type == "adaptive_entropy":
        assert wanted[4]["train/entropy_coefficient"] == 0.05
        assert wanted[3]["train/entropy_coefficient"] == pytest.approx(0.04)
    one = load_file(tmp_path / "whole/checkpoints/step-4/model.safetensors")
    other = load_file(tmp_path / "cut/checkpoints/step-4/model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
