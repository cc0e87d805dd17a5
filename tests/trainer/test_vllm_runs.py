"""Whole runs with vLLM: what they learn on, and that nothing of them is left however they end."""

import json
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from tests.fixtures.engines import is_guard, until
from tests.fixtures.forks import Fork, kill, suspend
from tests.fixtures.runs import events_of, rank_processes, tiny_spec, write_rows, written
from trainer.api import train
from trainer.loop import Run
from trainer.spec.events import Event, EventWriter, MessageEvent, Phase, Rollouts, StepMetrics, Stopped
from trainer.spec.manifest import read_manifest
from trainer.spec.resources import Resources
from trainer.spec.rollout import VllmSpec
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec, RunSpec
from trainer.system.memory import GIB

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("forked_vllm")]

ROLLOUT = RolloutSpec(
    engine="vllm",
    prompts_per_step=3,
    samples_per_prompt=4,
    max_response_tokens=24,
    vllm=VllmSpec(kv_cache_bytes=64 << 20),
)


def spec_of(model: Path, folder: Path) -> RunSpec:
    data = write_rows(folder / "data.jsonl")
    return tiny_spec(
        model,
        data,
        rollout=ROLLOUT,
        validation_data=None,
        diagnostics=DiagnosticsSpec(interval=0),
        checkpoint=CheckpointSpec(interval=1),
        total_steps=4,
    )


def steps_of(run_dir: Path) -> dict[int, dict[str, float]]:
    found = {e.step: e.values for e in events_of(run_dir) if isinstance(e, StepMetrics)}
    return {step: found[step] for step in sorted(found)}


def engine_of(trainer: Fork) -> psutil.Process:
    """The engine's process, once it is there."""

    def find() -> psutil.Process | None:
        for child in psutil.Process(trainer.pid).children(recursive=True):
            if "trainer.rollout.vllm_process" in child.cmdline() and not is_guard(child):
                return child
        return None

    return until(find, 60)


def gone(process: psutil.Process) -> bool:
    """Ended, if only its new parent has yet to hear of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def reached(run_dir: Path, step: int) -> bool:
    return (run_dir / "events.jsonl").exists() and step in steps_of(run_dir)


def test_each_step_samples_with_the_weights_of_the_one_before(untied_vllm_model: Path, tmp_path: Path):
    """And a run that was stopped, killed, and resumed each time ends with the weights of one that never was.

    The engine ends with the trainer: by itself, at its end; by SIGTERM to the whole group, at the end of the
    step; by SIGKILL to the trainer alone, which cannot do anything about it.
    """
    spec = spec_of(untied_vllm_model, tmp_path)
    before = set(psutil.Process().children())
    whole = train(spec, tmp_path / "whole")
    assert whole.checkpoint is not None
    assert set(psutil.Process().children()) <= before
    values = steps_of(tmp_path / "whole")
    moved = 0.0
    for step, of_step in values.items():
        assert of_step["rollout/logprob_gap_max"] < 2e-4, step
        assert of_step["rollout/importance_clipped"] == 0  # weighed by default, for another model samples
        assert of_step["time/sync"] > 0
        moved += of_step["train/grad_norm"]
    assert moved > 0
    # The weights did change under it: by the trainer's own word the old ones give other probabilities.
    assert values[1]["train/N/surprisal"] != pytest.approx(values[4]["train/N/surprisal"], abs=1e-3)

    arguments = written(spec, tmp_path / "cut")
    stopped = Fork("trainer", *arguments)
    engine = engine_of(stopped)
    until(lambda: reached(tmp_path / "cut", 1), 120)
    resident = psutil.Process(stopped.pid).memory_info().rss / GIB
    os.killpg(stopped.pid, signal.SIGTERM)
    assert stopped.wait(60) == 75
    assert gone(engine)
    # Of the trainer and of the engine's process, which has torch and vLLM in it.
    assert steps_of(tmp_path / "cut")[1]["memory/resident_gib"] > resident + 0.2
    killed = Fork("trainer", *arguments)
    engine = engine_of(killed)
    done = max(steps_of(tmp_path / "cut"))
    if done < 4:
        until(lambda: reached(tmp_path / "cut", done + 1), 120)
    killed.kill()
    killed.wait(30)
    until(lambda: gone(engine), 10)
    result = train(spec, tmp_path / "cut")
    assert result.checkpoint is not None and result.finished
    assert rollouts_of(tmp_path / "cut") == rollouts_of(tmp_path / "whole")
    name = "model.safetensors"
    assert (result.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes()


def test_a_stop_is_obeyed_while_the_engine_hangs(
    vllm_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trainer.rollout.vllm_replica.STOPPING_SECONDS", 0.5)
    stop = threading.Event()

    class Freezing(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if isinstance(event, Phase) and (event.step, event.phase) == (2, "generate"):
                for child in psutil.Process().children(recursive=True):
                    if "trainer.rollout.vllm_process" in child.cmdline() and not is_guard(child):
                        suspend(child)
                stop.set()

    with Freezing(tmp_path / "run/events.jsonl") as events:
        assert not Run(spec_of(vllm_model, tmp_path), tmp_path / "run", events, stop).run()
    last = events_of(tmp_path / "run")[-1]
    assert isinstance(last, Stopped) and last.step == 1
    read_manifest(tmp_path / "run/checkpoints/step-1", verify=True)


def test_an_engine_that_dies_beside_the_update_does_not_end_the_run(untied_vllm_model: Path, tmp_path: Path):
    """Two engines that sample a step ahead, of which one is killed: the other samples what it had not."""
    spec = spec_of(untied_vllm_model, tmp_path).model_copy(
        update={
            "rollout": ROLLOUT.model_copy(update={"staleness": 1}),
            "resources": Resources(gpus=3, rollout_gpus=2),
            "total_steps": 3,
        }
    )
    killed: list[int] = []

    class Killing(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if (
                isinstance(event, Phase)
                and (event.step, event.phase) == (2, "forward_backward")
                and not killed
            ):
                for child in psutil.Process().children(recursive=True):
                    if "trainer.rollout.vllm_process" in child.cmdline() and not is_guard(child):
                        killed.append(child.pid)
                        kill(child)
                        break

    with Killing(tmp_path / "run/events.jsonl") as events:
        run = Run(spec, tmp_path / "run", events)
        assert len(run._engine.process_ids) == 2
        assert run.run()
    values = steps_of(tmp_path / "run")
    assert [values[step]["train/rollout_age"] for step in (1, 2, 3)] == [0, 1, 1]
    assert values[1]["rollout/logprob_gap_max"] < 2e-4
    moved = [values[step]["train/grad_norm"] > 0 for step in (1, 2)]
    assert [values[step]["rollout/logprob_gap_max"] > 2e-4 for step in (2, 3)] == moved
    assert any(moved)
    assert all(values[step]["time/ahead"] > 0 for step in (1, 2))
    said = [e.message for e in events_of(tmp_path / "run") if isinstance(e, MessageEvent)]
    assert killed and any("ended by signal 9" in message for message in said), said


def test_the_first_ranks_engine_samples_for_all_ranks(vllm_model: Path, tmp_path: Path):
    """And grades, beside the update of all, who then know what it came to."""
    spec = spec_of(vllm_model, tmp_path).model_copy(
        update={
            "rollout": ROLLOUT.model_copy(update={"staleness": 1}),
            "resources": Resources(gpus=3, rollout_gpus=1),
            "total_steps": 2,
        }
    )
    first, second = rank_processes(spec, tmp_path / "run")
    said = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    values = steps_of(tmp_path / "run")
    assert [values[step]["train/rollout_age"] for step in (1, 2)] == [0, 1]
    assert values[1]["rollout/logprob_gap_max"] < 2e-4 and values[1]["time/ahead"] > 0
    assert all(values[step]["train/samples_generated"] == 12 for step in (1, 2))


def rollouts_of(run_dir: Path) -> dict[tuple[int, int, int], str]:
    """Text and log-probs of every response, by step, group and index."""
    return {
        (event.step, record.group, record.index): json.dumps([record.response, record.logprobs])
        for event in events_of(run_dir)
        if isinstance(event, Rollouts)
        for record in event.rollouts
    }
