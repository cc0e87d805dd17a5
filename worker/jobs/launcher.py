"""A trainer process under its guard: it ends with the worker, and everything it started ends with it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from app.core.settings import get_settings
from trainer.spec.resources import Resources
from trainer.system import logs
from trainer.system.files import write_atomically
from trainer.system.guarded import Guarded
from worker import gpus
from worker.jobs.environment import trainer_environment

SPEC_NAME = "spec.json"
#: What a worker has its trainers be, after its Python, unless its operator says otherwise.
OWN_PROGRAM = ["-P", "-m", "trainer"]
LOG_TAIL_BYTES = 4096
LOG_TAIL_LINES = 20


def write_spec(run_dir: Path, spec: dict[str, object]) -> Path:
    """Write the run's specification to its directory, whole or not at all."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / SPEC_NAME
    write_atomically(path, json.dumps(spec, indent=2))
    return path


def command_line(command: list[str], resources: Resources, gpus: int) -> list[str]:
    """What the worker starts, and supervises as its one process, for a run that has ``gpus`` of the worker's.

    The one place where launchers differ: with ``torchrun`` the trainer makes a process of each GPU that is to
    train (``trainer.distributed.launch``); with ``ray`` it is the driver of such processes on the hosts of a
    cluster (``trainer.gang``).
    """
    if resources.started_by == "ray":
        return _driver(command, resources)
    ranks = gpus - resources.rollout_gpus
    if not resources.rollout_gpus:
        ranks -= ranks % resources.tensor_parallel
    return [*command, "--ranks", str(ranks)] if resources.started_by == "torchrun" and ranks > 1 else command


def fewer_text(resources: Resources, gpus: int) -> str:
    """The event's message for a run that continues with fewer GPUs, as its ``min_gpus`` allows."""
    return f"{gpus} of {resources.gpus} GPUs are left for the job: it continues with these."


def _driver(command: list[str], resources: Resources) -> list[str]:
    driver = [sys.executable, "-P", "-m", "trainer.gang", "--ranks", str(resources.ranks)]
    if resources.min_gpus is not None:
        driver += ["--min-ranks", str(resources.min_gpus - resources.rollout_gpus)]
    driver += ["--nodes", str(resources.nodes)]
    if resources.rollout_gpus:
        driver += ["--rollout-gpus", str(resources.rollout_gpus)]
    if resources.tensor_parallel > 1:
        driver += ["--tensor-parallel", str(resources.tensor_parallel)]
    if get_settings().ray_device == "cpu":
        driver.append("--cpu")
    # Each host has its own Python: another program than python -m trainer is the same everywhere.
    return driver if command[1:] == OWN_PROGRAM else [*driver, "--trainer", json.dumps(command)]


def events_name(attempt: int) -> str:
    """The file that an attempt's events go to, inside the run directory."""
    return f"events-{attempt}.jsonl"


class Trainer:
    """A running trainer."""

    def __init__(self, process: Guarded, log_path: Path, slot: int | None):
        self._process = process
        self._slot = slot
        self._log_path = log_path

    @classmethod
    def start(
        cls,
        command: list[str],
        run_dir: Path,
        attempt: int,
        on_exit: Callable[[], None] = lambda: None,
        slots: tuple[int, ...] | None = None,
    ) -> "Trainer":
        """Start ``command`` on the specification in ``run_dir``; ``on_exit`` is called from a thread.

        It sees the GPUs of ``slots``, which the caller has taken; without, of one that it takes meanwhile.

        Raises OSError when the command cannot be started.
        """
        arguments = ("--events", events_name(attempt), "--attempt", str(attempt))
        return cls._start(command, run_dir, arguments, run_dir / f"trainer-{attempt}.log", on_exit, slots)

    @classmethod
    def start_replay(
        cls,
        command: list[str],
        run_dir: Path,
        step: int,
        on_exit: Callable[[], None] = lambda: None,
        slots: tuple[int, ...] | None = None,
    ) -> "Trainer":
        """Start ``command`` to do one step again (``trainer.replay``). Raises OSError as :meth:`start`."""
        log_path = run_dir / f"replay-{step}.log"
        log_path.unlink(missing_ok=True)
        return cls._start(command, run_dir, ("--replay", str(step)), log_path, on_exit, slots)

    @classmethod
    def _start(
        cls,
        command: list[str],
        run_dir: Path,
        arguments: tuple[str, ...],
        log_path: Path,
        on_exit: Callable[[], None],
        slots: tuple[int, ...] | None,
    ) -> "Trainer":
        slot = gpus.slots().take() if slots is None else None
        seen = (slot,) if slot is not None else slots or ()
        spec = run_dir / SPEC_NAME
        try:
            with log_path.open("ab") as log:
                process = Guarded(
                    [*command, "--spec", str(spec), "--run-dir", str(run_dir), *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    environment=trainer_environment(spec)
                    | gpus.slots().environment(*seen)
                    | logs.environment(),
                    on_exit=on_exit,
                )
        except BaseException:
            if slot is not None:
                gpus.slots().give_back(slot)
            raise
        return cls(process, log_path, slot)

    @property
    def pid(self) -> int:
        """The trainer's own process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the trainer's own process has not ended."""
        return self._process.running

    def wait(self, timeout: float) -> bool:
        """Whether the trainer's own process has ended, after ``timeout`` seconds at most."""
        return self._process.wait(timeout)

    def terminate(self) -> None:
        """Request an end: SIGTERM to the trainer itself, which takes care of its children."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and everything it started at once."""
        self._process.kill()

    def close(self) -> int:
        """End what is left; the exit code, negative for a signal."""
        code = self._process.close()
        if self._slot is not None:
            gpus.slots().give_back(self._slot)
            self._slot = None
        return code

    def log_tail(self) -> str:
        """The last lines that the trainer printed."""
        with self._log_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:]).strip()
