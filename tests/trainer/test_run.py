"""Whole runs: what they tell, what they leave behind, and how they stop and go on."""

import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.runs import (
    events_of,
    forked_trainer,
    reproducible,
    run_main,
    tiny_spec,
    trainer_process,
    wait_for_event,
    write_rows,
)
from trainer.graders.spec import StringCheckGrader
from trainer.loop import Run
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.events import (
    CheckpointRemoved,
    CheckpointSaved,
    Event,
    EventWriter,
    Failed,
    Finished,
    MessageEvent,
    Phase,
    Rollouts,
    Started,
    StepMetrics,
    Stopped,
)
from trainer.spec.manifest import IncompleteCheckpoint, read_manifest
from trainer.spec.model import ModelSpec
from trainer.spec.run import CheckpointSpec, PreflightSpec, RunSpec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl")


def run_in_process(spec: RunSpec, run_dir: Path) -> list:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    return events_of(run_dir)


def only(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def weights(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir / f"checkpoints/step-{step}/model.safetensors")


def test_a_run_tells_and_leaves_everything(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data)
    events = run_in_process(spec, tmp_path / "run")
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    metrics = only(events, StepMetrics)
    assert [m.step for m in metrics] == [0, 1, 2, 3, 4, 5]
    for mode in "NH":
        assert all(0 <= m.values[f"train/{mode}/reward"] <= 1 for m in metrics[1:])
        assert all(m.values[f"train/{mode}/entropy_nats"] > 0 for m in metrics[1:])
        assert f"eval/{mode}/reward" in metrics[0].values
        assert f"eval/{mode}/reward" in metrics[-1].values
    assert all(m.values["diag/kl_H_N/prefix_H"] >= 0 for m in metrics[1:])
    rollouts = only(events, Rollouts)
    assert [len(r.rollouts) for r in rollouts] == [12] * 5
    for record in rollouts[0].rollouts:
        assert len(record.logprobs) == len(record.entropies) == len(record.token_texts) == record.tokens
        assert (spec.high_entropy_prompt in record.prompt) == (record.mode == "high-entropy")
    finished = only(events, Finished)[0]
    assert finished.step == 5
    # Every response trains under both prompts.
    generated = sum(m.values["train/tokens_generated"] for m in metrics[1:])
    assert finished.trained_tokens == 2 * generated
    folder = tmp_path / "run/checkpoints/step-5"
    manifest = read_manifest(folder, verify=True)
    assert manifest.high_entropy_prompt == spec.high_entropy_prompt
    # What chooses an engine has chosen one.
    rollout = spec.rollout.model_copy(update={"engine": "transformers"})
    assert RunSpec.model_validate(manifest.spec) == spec.model_copy(update={"rollout": rollout})
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= manifest.files.keys()
    assert not list((tmp_path / "run").rglob("*.tmp*"))
    before = load_file(tiny_model / "model.safetensors")
    after = weights(tmp_path / "run", 5)
    assert all(not torch.equal(before[name], after[name]) for name in after)


def test_grpo_samples_and_scores_one_mode(tiny_model: Path, data: Path, tmp_path: Path):
    events = run_in_process(tiny_spec(tiny_model, data, Grpo()), tmp_path / "run")
    names = {name for m in only(events, StepMetrics) for name in m.values}
    assert not [name for name in names if "/H/" in name or name.startswith(("diag/", "cross/"))]
    assert {r.mode for e in only(events, Rollouts) for r in e.rollouts} == {"normal"}


def test_a_run_is_reproducible_and_its_seed_matters(tiny_model: Path, data: Path, tmp_path: Path):
    runs = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        events = run_in_process(tiny_spec(tiny_model, data, seed=seed), tmp_path / name)
        runs[name] = ([reproducible(m) for m in only(events, StepMetrics)], weights(tmp_path / name, 5))
    assert runs["one"][0] == runs["again"][0]
    assert all(torch.equal(runs["one"][1][n], runs["again"][1][n]) for n in runs["one"][1])
    assert runs["one"][0] != runs["other"][0]


def test_evaluation_takes_nothing_from_training(tiny_model: Path, data: Path, tmp_path: Path):
    with_evaluation = run_in_process(tiny_spec(tiny_model, data), tmp_path / "with")
    without = run_in_process(tiny_spec(tiny_model, data, validation_data=None), tmp_path / "without")
    assert not [n for m in only(without, StepMetrics) for n in m.values if n.startswith("eval/")]
    assert [n for m in only(with_evaluation, StepMetrics) for n in m.values if n.startswith("eval/")]
    one, other = weights(tmp_path / "with", 5), weights(tmp_path / "without", 5)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("dtype", "after_step", "kept"),
    [("float32", 1, "float32"), ("bfloat16", 3, "float32"), ("bfloat16", 3, "int8")],
)
def test_a_killed_run_goes_on_bit_for_bit(
    tiny_model: Path, data: Path, tmp_path: Path, dtype, after_step: int, kept
):
    """SIGKILL between two steps, then the same command: same weights, same metrics, no gap, no duplicate."""
    spec = tiny_spec(tiny_model, data, model=ModelSpec(path=str(tiny_model), dtype=dtype))
    spec = spec.model_copy(update={"optimizer": spec.optimizer.model_copy(update={"moments": kept})})
    expected = run_in_process(spec, tmp_path / "whole")

    class Killed(Exception):
        pass

    class DyingWriter(EventWriter):
        def write(self, event):
            super().write(event)
            if isinstance(event, Rollouts) and event.step == after_step + 1:
                raise Killed

    with pytest.raises(Killed), DyingWriter(tmp_path / "cut/events-1.jsonl") as events:
        Run(spec, tmp_path / "cut", events).run()
    with EventWriter(tmp_path / "cut/events-2.jsonl") as events:
        resumed = Run(spec, tmp_path / "cut", events)
        assert resumed.counters.step == (0 if after_step == 1 else 2)
        assert resumed.run()
    one, other = weights(tmp_path / "whole", 5), weights(tmp_path / "cut", 5)
    assert all(torch.equal(one[name], other[name]) for name in one)
    merged = {}
    for name in ("events-1.jsonl", "events-2.jsonl"):
        merged |= {m.step: reproducible(m) for m in only(events_of(tmp_path / "cut", name), StepMetrics)}
    assert merged == {m.step: reproducible(m) for m in only(expected, StepMetrics)}
    final = only(events_of(tmp_path / "cut", "events-2.jsonl"), Finished)[0]
    assert final.trained_tokens == only(expected, Finished)[0].trained_tokens


def test_sigterm_finishes_the_step_and_can_be_resumed(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data, total_steps=400, checkpoint=CheckpointSpec(interval=1000))
    process = forked_trainer(spec, tmp_path / "run")
    wait_for_event(process, tmp_path / "run", lambda e: isinstance(e, StepMetrics) and e.step >= 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    stopped = events_of(tmp_path / "run")[-1]
    assert isinstance(stopped, Stopped)
    assert 2 <= stopped.step < 400
    read_manifest(tmp_path / f"run/checkpoints/step-{stopped.step}", verify=True)
    shorter = spec.model_copy(update={"total_steps": stopped.step + 1})
    with EventWriter(tmp_path / "run/events-2.jsonl") as events:
        assert Run(shorter, tmp_path / "run", events).run()
    again = events_of(tmp_path / "run", "events-2.jsonl")
    assert isinstance(again[0], Started) and again[0].step == stopped.step
    assert [m.step for m in only(again, StepMetrics)] == [stopped.step + 1]


@pytest.mark.parametrize("phase", ["preflight", "evaluate"])
def test_what_comes_before_the_first_step_is_given_up_when_a_stop_is_asked_for(
    tiny_model: Path, data: Path, tmp_path: Path, phase: str
):
    spec = tiny_spec(tiny_model, data, preflight=PreflightSpec(), total_steps=1)
    stop = threading.Event()

    class Stopping(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if isinstance(event, Phase) and event.phase == phase:
                stop.set()

    with Stopping(tmp_path / "run/events.jsonl") as events:
        assert not Run(spec, tmp_path / "run", events, stop).run()
    told = events_of(tmp_path / "run")
    assert isinstance(told[-1], Stopped) and told[-1].step == 0
    assert not only(told, StepMetrics)
    with EventWriter(tmp_path / "run/events-2.jsonl") as events:
        assert Run(spec, tmp_path / "run", events).run()
    phases = [event.phase for event in only(events_of(tmp_path / "run", "events-2.jsonl"), Phase)]
    assert phases.index("preflight") < phases.index("evaluate") < phases.index("generate")


def test_a_trainer_whose_owner_dies_ends_at_once(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data, total_steps=100_000)
    process = trainer_process(spec, tmp_path / "run", guarded=True)
    wait_for_event(process, tmp_path / "run", lambda e: isinstance(e, StepMetrics))
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGKILL, output


def test_the_best_checkpoints_and_the_last_are_kept(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data, checkpoint=CheckpointSpec(interval=1, keep_best=1))
    events = run_in_process(spec, tmp_path / "run")
    saved = {e.step: e.metrics for e in only(events, CheckpointSaved)}
    removed = {e.step for e in only(events, CheckpointRemoved)}
    kept = {int(p.name[5:]) for p in (tmp_path / "run/checkpoints").iterdir()}
    assert kept == saved.keys() - removed
    assert 5 in kept and 1 <= len(kept) <= 2


def test_a_torn_checkpoint_is_told_from_a_whole_one(tiny_model: Path, data: Path, tmp_path: Path):
    run_in_process(tiny_spec(tiny_model, data, total_steps=1), tmp_path / "run")
    folder = tmp_path / "run/checkpoints/step-1"
    weights_file = folder / "model.safetensors"
    content = weights_file.read_bytes()
    weights_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IncompleteCheckpoint, match=r"model\.safetensors"):
        read_manifest(folder, verify=True)
    (folder / "policysplit.json").unlink()
    with pytest.raises(IncompleteCheckpoint, match="not a finished checkpoint"):
        read_manifest(folder)


def test_a_failing_grader_leaves_responses_out_or_fails_the_run(tiny_model: Path, data: Path, tmp_path: Path):
    broken = StringCheckGrader(input="{{sample.output_json.x}}", reference="1")
    assert run_main(tiny_spec(tiny_model, data, grader=broken), tmp_path / "run") == 1
    failed = events_of(tmp_path / "run")[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.param) == ("grader_failed", "grader")
    assert "sample.output_json.x" in failed.message
    assert not only(events_of(tmp_path / "run"), MessageEvent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ModelSpec(path="/nowhere")}, "/nowhere is not a model folder"),
        ({"high_entropy_prompt": "wander " * 400}, "have more than 1,024 tokens"),
    ],
)
def test_specs_that_cannot_work_are_refused(tiny_model: Path, data: Path, tmp_path: Path, change, message):
    assert run_main(tiny_spec(tiny_model, data, **change), tmp_path / "run") == 2
    failed = events_of(tmp_path / "run")[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "invalid_spec"
    assert message in failed.message


def test_a_malformed_spec_is_refused_with_the_field(tmp_path: Path):
    (tmp_path / "spec.json").write_text('{"run_id": "x", "surprise": 1}')
    from trainer.__main__ import main

    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["--spec", str(tmp_path / "spec.json"), "--run-dir", str(tmp_path)]) == 2
    finally:
        signal.signal(signal.SIGTERM, handler)
    failed = events_of(tmp_path)[-1]
    assert isinstance(failed, Failed)
    assert "surprise" in failed.message and "grader" in failed.message


def test_odd_groups_are_refused_for_two_modes(tiny_model: Path, data: Path):
    with pytest.raises(ValueError, match=r"rollout\.samples_per_prompt is 3"):
        tiny_spec(tiny_model, data, rollout={"samples_per_prompt": 3})
    with pytest.raises(ValueError, match="from 0 to 4"):
        tiny_spec(tiny_model, data, PolicySplit(high_entropy_samples=5), rollout={"samples_per_prompt": 4})
    assert tiny_spec(tiny_model, data, Grpo(), rollout={"samples_per_prompt": 3})
