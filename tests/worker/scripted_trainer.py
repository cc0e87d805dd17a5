"""A real process with the trainer's command line that does what a small JSON script says.

``scripted_trainer.py --script FILE --spec … --run-dir … --events …``. The script maps
attempt numbers (or ``default``) to a plan; see :class:`Plan`. It resumes from its last checkpoint, and a
step's values depend on the step alone, as with an exact resume.
"""

import argparse
import errno
import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.spec.events import (
    CheckpointSaved,
    Event,
    EventWriter,
    Failed,
    Finished,
    MessageEvent,
    Phase,
    RolloutRecord,
    Rollouts,
    Started,
    StepDigest,
    StepMetrics,
    Stopped,
)
from trainer.spec.manifest import MANIFEST_NAME, Manifest, file_sha256
from trainer.spec.modes import Mode
from trainer.system.guard import end_self
from trainer.system.run_lock import sole_trainer

TOKENS_A_STEP = 10
EXIT_DISK_FULL = 74


@dataclass
class Plan:
    """What an attempt does."""

    step_seconds: float = 0.0
    beats: int = 1  # the parts of a step, each of which is told of
    checkpoint_every: int = 0
    hang_after: int | None = None  # stop moving after this step; a SIGTERM ends it unless ignored
    crash_after: int | None = None  # with crash_with
    crash_with: int = 3  # an exit code; negative: a signal to itself
    finish_after: int | None = None  # says "finished" with fewer steps
    fail: dict[str, Any] | None = None  # a "failed" event instead of training
    ignore_sigterm: bool = False
    child: bool = False  # a grandchild of the worker, in the same group, that ignores SIGTERM
    repeat_events: bool = False  # writes everything twice
    garbage_after: int | None = None  # a line that is not an event
    final_checkpoint: bool = True
    exit_code: int = 0
    linger: bool = False  # hangs after its last event
    print_environment: tuple[str, ...] = ()  # the values of these variables, as JSON


class ScriptedTrainer:
    def __init__(self, spec: dict, run_dir: Path, plan: Plan, writer: EventWriter, events: Path):
        self.total = spec["total_steps"]
        self.run_id = spec["run_id"]
        self.run_dir, self.plan, self.writer, self.events = run_dir, plan, writer, events
        self.stop = threading.Event()
        if plan.ignore_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGTERM, lambda *_: self.stop.set())

    def run(self) -> int:
        plan = self.plan
        if plan.print_environment:
            print(json.dumps({name: os.environ.get(name) for name in plan.print_environment}), flush=True)
        if plan.child:
            code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
            child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
            (self.run_dir / "child.pid").write_text(str(child.pid))
        if plan.fail:
            self.write(Failed(**plan.fail))
            return 1
        step = self.last_step()
        self.write(Started(step=step, total_steps=self.total, parameters=7, device="cpu"))
        self.write(MessageEvent(message=f"going on after step {step}"))
        while step < self.total:
            for _ in range(plan.beats):
                self.stop.wait(plan.step_seconds / plan.beats)
                if plan.beats > 1:
                    self.write(Phase(step=step + 1, phase="generate"))
            if self.stop.is_set():
                return self.stopped(step)
            step += 1
            self.one_step(step)
            if plan.garbage_after == step:
                with self.events.open("ab") as file:
                    file.write(b'{"type": "metrics", "step": "many"}\nnot json\n')
            if plan.checkpoint_every and step % plan.checkpoint_every == 0:
                self.checkpoint(step)
            if plan.crash_after == step:
                print(f"about to crash after step {step}", flush=True)
                if plan.crash_with < 0:
                    os.kill(os.getpid(), -plan.crash_with)
                return plan.crash_with
            if plan.hang_after == step:
                self.stop.wait()
                return self.stopped(step)
            if plan.finish_after == step:
                break
        if plan.final_checkpoint:
            self.checkpoint(step)
        self.write(Finished(step=step, trained_tokens=step * TOKENS_A_STEP))
        if plan.linger:
            threading.Event().wait()
        return plan.exit_code

    def one_step(self, step: int) -> None:
        values = {
            "train/N/reward": step / 10,
            "train/H/reward": step / 10,
            "train/N/length": 3.0,
            "train/H/length": 5.0,
            "train/step_seconds": 0.5,
            "time/generate": 0.25,
        }
        sampled = hashlib.sha256(f"{self.run_id}/{step}".encode()).hexdigest()
        digest = StepDigest(rollouts=sampled, rewards=sampled, grad_norm=step / 10)
        self.write(StepMetrics(step=step, total_steps=self.total, values=values, digest=digest))
        records = [
            RolloutRecord(
                group=0,
                index=index,
                item=step,
                mode=mode,
                prompt="1 + 1 =",
                response=f"{step}",
                reward=1.0,
                tokens=1,
                truncated=False,
                logprobs=[-0.5],
                entropies=[0.7],
                token_texts=["2"],
            )
            for index, mode in enumerate(Mode)
        ]
        self.write(Rollouts(step=step, rollouts=records))

    def checkpoint(self, step: int) -> None:
        folder = self.run_dir / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(
            run_id=self.run_id,
            step=step,
            base_model="tiny",
            algorithm="policy_split",
            high_entropy_prompt="Explore.",
        )
        (folder / "config.json").write_text("{}")
        temporary = folder / f"{MANIFEST_NAME}.tmp"
        temporary.write_text(manifest.model_dump_json())
        temporary.rename(folder / MANIFEST_NAME)
        self.write(
            CheckpointSaved(
                step=step,
                path=f"checkpoints/step-{step}",
                high_entropy_prompt="Explore.",
                manifest_sha256=file_sha256(folder / MANIFEST_NAME),
                metrics={"train/N/reward": step / 10},
            )
        )

    def stopped(self, step: int) -> int:
        self.checkpoint(step)
        self.write(Stopped(step=step, trained_tokens=step * TOKENS_A_STEP))
        return 0

    def last_step(self) -> int:
        done = self.run_dir.glob(f"checkpoints/step-*/{MANIFEST_NAME}")
        return max((int(path.parent.name.removeprefix("step-")) for path in done), default=0)

    def write(self, event: Event) -> None:
        for _ in range(2 if self.plan.repeat_events else 1):
            self.writer.write(event)


def main() -> int:
    parser = argparse.ArgumentParser()
    for option in ("--script", "--spec", "--run-dir", "--events"):
        parser.add_argument(option, required=True, type=Path)
    parser.add_argument("--attempt", type=int, default=0)
    options = parser.parse_args()
    script = json.loads(options.script.read_text())
    attempt = options.events.stem.removeprefix("events-")
    plan = Plan(**script.get(attempt, script.get("default", {})))
    events = options.run_dir / options.events
    with (options.run_dir / f"stacks-{attempt}.txt").open("wb") as stacks:
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        with (
            sole_trainer(options.run_dir, options.attempt, end_self),
            EventWriter(events) as writer,
        ):
            spec = json.loads(options.spec.read_text())
            return ScriptedTrainer(spec, options.run_dir, plan, writer, events).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.exit(EXIT_DISK_FULL)
