"""A run that is killed at random instants ends as the run that nobody killed: to the bit, and row for row."""

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fixtures.forks import Fork
from tests.fixtures.runs import events_of, reproducible, tiny_spec, write_rows
from trainer.checkpoints.checkpoint import step_folders
from trainer.spec.events import Finished, MessageEvent, RolloutRecord, Rollouts, Started, StepMetrics
from trainer.spec.manifest import read_manifest
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.run import RunSpec


@dataclass
class Told:
    """What a run told, whichever attempts told it: by step, and so a repetition must say the same."""

    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    digests: dict[int, Any] = field(default_factory=dict)
    rollouts: dict[tuple[int, int, int], RolloutRecord] = field(default_factory=dict)
    trained_tokens: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class KillPoint:
    """Where a run was hit, and what was done to its newest state after that."""

    after_seconds: float
    states: tuple[int, ...]
    damaged: str | None
    resumed_after: int


class KilledRuns:
    """One spec, its uninterrupted run, and runs of it that are killed."""

    def __init__(self, folder: Path, model: Path, *, lora: bool, seed: int = 0):
        self._folder, self._rng = folder, Random(f"{seed}-{lora}")
        folder.mkdir(parents=True)
        data = write_rows(folder / "data.jsonl")
        changes: dict[str, Any] = {"lora": LoraSpec(rank=2)} if lora else {}
        self.spec: RunSpec = tiny_spec(
            model, data, model=ModelSpec(path=str(model), dtype="bfloat16"), total_steps=6, **changes
        )
        whole = self._start(folder / "whole", 1)
        began = time.monotonic()
        self._end(whole, folder / "whole")
        self.seconds = time.monotonic() - began
        self.whole = _told(folder / "whole", 1)
        self.files = read_manifest(folder / "whole/checkpoints/step-6", verify=True).files

    def kill(self, number: int, kills: int = 1, damage: bool | None = None) -> list[KillPoint]:
        """A run that is killed ``kills`` times and then left alone; raises AssertionError when it differs.

        ``damage``: whether its newest state is damaged after a kill; None: now and then.
        """
        run_dir = self._folder / f"killed-{number}"
        points, attempt = [], 1
        for _ in range(kills):
            after = self._rng.uniform(0.0, self.seconds)
            fork = self._start(run_dir, attempt)
            time.sleep(after)  # that it is not a particular instant is the point
            with contextlib.suppress(ProcessLookupError):
                os.killpg(fork.pid, signal.SIGKILL)
            fork.wait()
            attempt += 1
            hit = self._rng.random() < 0.4 if damage is None else damage
            states = tuple(step_folders(run_dir / "state"))
            points.append((after, states, self._damage(run_dir) if hit else None))
        self._end(self._start(run_dir, attempt), run_dir)
        self._compare(run_dir, attempt)
        started = events_of(run_dir, f"events-{attempt}.jsonl")[0]
        assert isinstance(started, Started)
        return [KillPoint(after, states, damaged, started.step) for after, states, damaged in points]

    def _damage(self, run_dir: Path) -> str | None:
        """Tear the newest state's tensors, turn a bit of them, or tear the record beside them."""
        states = step_folders(run_dir / "state")
        if not states:
            return None
        folder = states[max(states)]
        way = self._rng.choice(["torn", "bit", "record", "missing"])
        path = folder / ("state.json" if way == "record" else "state.safetensors")
        content = bytearray(path.read_bytes())
        if way == "missing":
            path.unlink()
            return way
        if way == "bit":
            content[self._rng.randrange(len(content) // 2, len(content))] ^= 1
        else:
            del content[self._rng.randrange(len(content)) :]
        path.write_bytes(content)
        return way

    def _start(self, run_dir: Path, attempt: int) -> Fork:
        run_dir.mkdir(exist_ok=True)
        (run_dir / "spec.json").write_text(self.spec.model_dump_json())
        where = ["--spec", str(run_dir / "spec.json"), "--run-dir", str(run_dir)]
        which = ["--events", f"events-{attempt}.jsonl", "--attempt", str(attempt)]
        with (run_dir / "log.txt").open("ab") as log:
            return Fork("trainer", *where, *which, streams=(0, log.fileno(), log.fileno()))

    def _end(self, fork: Fork, run_dir: Path) -> None:
        assert fork.wait() == 0, (run_dir / "log.txt").read_text()

    def _compare(self, run_dir: Path, attempts: int) -> None:
        found = _told(run_dir, attempts)
        expected = self.whole
        assert found.metrics.keys() == expected.metrics.keys()
        assert {step: json.dumps(values) for step, values in found.metrics.items()} == {
            step: json.dumps(values) for step, values in expected.metrics.items()
        }
        assert found.digests == expected.digests
        assert found.rollouts == expected.rollouts
        assert found.trained_tokens == expected.trained_tokens
        manifest = read_manifest(run_dir / "checkpoints/step-6", verify=True)
        assert manifest.files == self.files, "the final weights are not the same bytes"
        assert not list(run_dir.rglob(".step-*")), "nothing half-written is left"
        assert not (run_dir / "state").exists()


def _told(run_dir: Path, attempts: int) -> Told:
    told = Told()
    for attempt in range(1, attempts + 1):
        if not (run_dir / f"events-{attempt}.jsonl").exists():
            continue  # it was killed before it had written anything
        for event in events_of(run_dir, f"events-{attempt}.jsonl"):
            match event:
                case StepMetrics():
                    values = dict(sorted(reproducible(event).items()))
                    assert told.metrics.setdefault(event.step, values) == values, event.step
                    assert told.digests.setdefault(event.step, event.digest) == event.digest, event.step
                case Rollouts():
                    for record in event.rollouts:
                        key = (event.step, record.group, record.index)
                        assert told.rollouts.setdefault(key, record) == record, key
                case Finished():
                    told.trained_tokens = event.trained_tokens
                case MessageEvent() if event.level == "warn":
                    told.warnings.append(event.message)
                case _:
                    pass
    return told
