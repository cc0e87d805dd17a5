"""Whole runs that learn from rows: what they tell and leave, and how they stop and go on."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import OF_THE_MACHINE, events_of, rank_processes, reproducible
from trainer.errors import InvalidSpec
from trainer.loop import build_run
from trainer.replay import replay
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import CheckpointSaved, EventWriter, Finished, MessageEvent, StepMetrics, Stopped
from trainer.spec.manifest import read_manifest
from trainer.spec.metric_names import METRICS
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.run import CheckpointSpec, OptimizerSpec, RunSpec
from trainer.spec.taught import Dpo, Supervised


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "opinionated", spread=0.1)


def write_lessons(path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"Say {x}"}, {"role": "assistant", "content": 3 * x}]}
        for x in "abcdefg"
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_preferences(path: Path) -> Path:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"Say {x}"}]},
            "preferred_output": [{"role": "assistant", "content": 3 * x}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        }
        for x in "abcdefg"
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spec_of(model: Path, folder: Path, method: Any = None, **changes: Any) -> RunSpec:
    write = write_preferences if isinstance(method, Dpo) else write_lessons
    data = JsonlData(path=str(write(folder / "rows.jsonl")))
    fields: dict[str, Any] = {
        "run_id": "test",
        "model": ModelSpec(path=str(model), dtype="float32"),
        "training_data": data,
        "validation_data": data,
        "grader": None,
        "algorithm": method or Supervised(batch_size=3),
        "optimizer": OptimizerSpec(learning_rate=1e-2),
        "evaluation": EvaluationSpec(interval=2),
        "checkpoint": CheckpointSpec(interval=2),
        "total_steps": 5,
        "seed": 3,
    }
    return RunSpec(**(fields | changes))


def run(spec: RunSpec, run_dir: Path) -> list[Any]:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert build_run(spec, run_dir, events).run()
    return events_of(run_dir)


def only(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def weights(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir / f"checkpoints/step-{step}/model.safetensors")


def test_a_run_learns_its_rows_and_tells_everything(model: Path, tmp_path: Path):
    events = run(spec_of(model, tmp_path, total_steps=12), tmp_path / "run")
    metrics = {event.step: event.values for event in only(events, StepMetrics)}
    assert sorted(metrics) == list(range(13))
    assert metrics[0].keys() == {"eval/loss", "eval/token_accuracy", "eval/N/loss", "eval/N/entropy_nats"}
    assert metrics[12]["eval/loss"] < 0.6 * metrics[0]["eval/loss"]
    assert metrics[12]["eval/token_accuracy"] > metrics[0]["eval/token_accuracy"]
    told = {"train/loss", "train/token_accuracy", "valid/loss", "train/lr", "train/step_seconds"}
    assert all(told <= metrics[step].keys() for step in range(1, 13))
    assert all(("eval/loss" in metrics[step]) == (step % 2 == 0) for step in range(1, 13))
    unknown = {name for values in metrics.values() for name in values} - {
        name for values in metrics.values() for name in values if any(one.matches(name) for one in METRICS)
    }
    assert unknown == set()
    (finished,) = only(events, Finished)
    # "aaa" and the end of the turn, three rows a step.
    assert finished.trained_tokens == 12 * 3 * 4
    assert finished.reason.startswith("its eval/loss is the lowest")
    manifest = read_manifest(tmp_path / f"run/checkpoints/step-{finished.result_step}", verify=True)
    assert manifest.algorithm == "supervised"
    assert all(event.digest is not None for event in only(events, StepMetrics)[1:])


def test_both_modes_learn_where_they_are_to(model: Path, tmp_path: Path):
    events = run(
        spec_of(model, tmp_path, Supervised(batch_size=7, modes="both"), total_steps=2), tmp_path / "run"
    )
    last = only(events, StepMetrics)[-1].values
    assert {"train/N/loss", "train/H/loss", "eval/H/loss"} <= last.keys()
    assert last["train/loss"] == pytest.approx((last["train/N/loss"] + last["train/H/loss"]) / 2)
    assert only(events, Finished)[0].trained_tokens == 2 * 2 * 7 * 4


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=2)], ids=["all-weights", "adapters"])
def test_a_run_learns_what_is_preferred(model: Path, tmp_path: Path, lora: LoraSpec | None):
    optimizer = OptimizerSpec(learning_rate=1e-3 if lora is None else 3e-2)
    spec = spec_of(model, tmp_path, Dpo(batch_size=7), lora=lora, optimizer=optimizer, total_steps=6)
    events = run(spec, tmp_path / "run")
    metrics = {event.step: event.values for event in only(events, StepMetrics)}
    # The reference is the model that training begins with: nothing is preferred there.
    assert metrics[0]["eval/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics[0]["eval/preference_margin"] == pytest.approx(0, abs=1e-6)
    assert metrics[6]["eval/loss"] < 0.9 * math.log(2) and metrics[6]["eval/preference_accuracy"] == 1.0
    assert metrics[6]["eval/preferred_reward"] > metrics[6]["eval/non_preferred_reward"]
    assert not [
        name for values in metrics.values() for name in values if not any(m.matches(name) for m in METRICS)
    ]
    assert read_manifest(tmp_path / "run/checkpoints/step-6").algorithm == "dpo"


@pytest.mark.parametrize("method", [None, Dpo(batch_size=3)], ids=["supervised", "dpo"])
@pytest.mark.parametrize("lora", [None, LoraSpec(rank=2)], ids=["all-weights", "adapters"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    model: Path, tmp_path: Path, lora: LoraSpec | None, method: Dpo | None
):
    spec = spec_of(model, tmp_path, method, lora=lora)
    whole = run(spec, tmp_path / "whole")
    with EventWriter(tmp_path / "cut/events-1.jsonl") as events:
        first = build_run(spec, tmp_path / "cut", events)
        write = events.write

        def stopping(event: Any) -> None:
            write(event)
            if isinstance(event, StepMetrics) and event.step == 3:
                first._stop.set()

        events.write = stopping  # type: ignore[method-assign]
        assert not first.run()
    with EventWriter(tmp_path / "cut/events.jsonl") as events:
        resumed = build_run(spec, tmp_path / "cut", events)
        assert resumed.counters.step == 3
        assert resumed.run()
    rest = [reproducible(event) for event in only(events_of(tmp_path / "cut"), StepMetrics)]
    assert rest == [reproducible(event) for event in only(whole, StepMetrics)][-len(rest) :]
    one, other = weights(tmp_path / "whole", 5), weights(tmp_path / "cut", 5)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_can_be_done_again(model: Path, tmp_path: Path):
    spec = spec_of(model, tmp_path)
    events = run(spec, tmp_path / "run")
    again = replay(spec, tmp_path / "run", 4)
    assert again.digest.model_dump(exclude={"weights"}) == only(events, StepMetrics)[4].digest.model_dump(
        exclude={"weights"}
    )


def test_two_ranks_learn_what_one_does(model: Path, tmp_path: Path):
    spec = spec_of(model, tmp_path, Supervised(batch_size=4, modes="both"), total_steps=3)
    alone = run(spec, tmp_path / "alone")
    processes = rank_processes(spec, tmp_path / "ranks")
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    together = only(events_of(tmp_path / "ranks"), StepMetrics)
    for one, other in zip(only(alone, StepMetrics), together, strict=True):
        names = [name for name in one.values if not name.startswith(OF_THE_MACHINE)]
        for name in names:
            assert other.values[name] == pytest.approx(one.values[name], rel=1e-4, abs=1e-6), name


def test_rows_that_are_too_long_are_named_or_left_out(model: Path, tmp_path: Path):
    spec = spec_of(model, tmp_path, Supervised(batch_size=2, max_tokens=20))
    with EventWriter(tmp_path / "run/events.jsonl") as events:
        with pytest.raises(
            InvalidSpec, match=r"7 of 7 rows of training_data have more than 20 tokens"
        ) as error:
            build_run(spec, tmp_path / "run", events)
        assert error.value.param == "overlong_rows"
    rows = tmp_path / "rows.jsonl"
    long = {"messages": [{"role": "user", "content": "x" * 90}, {"role": "assistant", "content": "y"}]}
    spec = spec_of(
        model, tmp_path, Supervised(batch_size=2, max_tokens=90, overlong_rows="drop"), total_steps=1
    )
    rows.write_text(rows.read_text() + json.dumps(long) + "\n")
    events = run(spec, tmp_path / "other")
    (left_out, _) = [event for event in only(events, MessageEvent) if event.level == "warn"]
    assert left_out.data["overlong_rows"]["lines"] == [8]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training_data": {"type": "environment", "task": "chain_sum"}}, "learns from the rows of a file"),
        ({"checkpoint": CheckpointSpec(metric="eval/N/accuracy")}, "only measures the validation loss"),
        ({"optimizer": OptimizerSpec(updates_per_batch=2)}, "updates_per_batch is 2"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(model: Path, tmp_path: Path, changes: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        spec_of(model, tmp_path, **changes)


def test_stopping_saves_what_was_learnt(model: Path, tmp_path: Path):
    spec = spec_of(model, tmp_path)
    with EventWriter(tmp_path / "run/events.jsonl") as events:
        stopped = build_run(spec, tmp_path / "run", events)
        stopped._stop.set()
        assert not stopped.run()
    assert only(events_of(tmp_path / "run"), Stopped)[0].step == 0
    assert only(events_of(tmp_path / "run"), CheckpointSaved) == []
