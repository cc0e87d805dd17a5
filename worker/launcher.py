"""A trainer process: started in a process group of its own, stopped with everything it started.

Three things keep it and its children from outliving the worker. Its standard input is a pipe that the worker
holds open: the kernel closes it however the worker ends, and the trainer exits at the end of file. When the
trainer itself has ended, whatever is left of its group is killed before its process id is given back to the
system. And where both were killed at once, the worker's heir does that (``worker.heir``).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.heir import Heir

SPEC_NAME = "spec.json"
LOG_TAIL_BYTES = 4096
LOG_TAIL_LINES = 20
HEIR = Heir()


def write_spec(run_dir: Path, spec: dict[str, Any]) -> Path:
    """Write the run's specification to its directory, whole or not at all."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / SPEC_NAME
    temporary = path.with_name(f".{SPEC_NAME}.{os.getpid()}.{threading.get_ident()}")
    with temporary.open("w") as file:
        json.dump(spec, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def events_name(attempt: int) -> str:
    """The file that an attempt's events go to, inside the run directory."""
    return f"events-{attempt}.jsonl"


class Trainer:
    """A running trainer."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path, on_exit: Callable[[], None]):
        self._process = process
        self._log_path = log_path
        self._exited = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch, args=(on_exit,), name=f"watch-{process.pid}", daemon=True
        )
        self._watcher.start()

    @classmethod
    def start(
        cls, command: list[str], run_dir: Path, attempt: int, on_exit: Callable[[], None] = lambda: None
    ) -> "Trainer":
        """Start ``command`` on the specification in ``run_dir``; ``on_exit`` is called from a thread.

        Raises OSError when the command cannot be started.
        """
        arguments = ("--events", events_name(attempt), "--attempt", str(attempt))
        return cls._start(command, run_dir, arguments, run_dir / f"trainer-{attempt}.log", on_exit)

    @classmethod
    def start_replay(
        cls, command: list[str], run_dir: Path, step: int, on_exit: Callable[[], None] = lambda: None
    ) -> "Trainer":
        """Start ``command`` to do one step again (``trainer.replay``). Raises OSError as :meth:`start`."""
        log_path = run_dir / f"replay-{step}.log"
        log_path.unlink(missing_ok=True)
        return cls._start(command, run_dir, ("--replay", str(step)), log_path, on_exit)

    @classmethod
    def _start(
        cls,
        command: list[str],
        run_dir: Path,
        arguments: tuple[str, ...],
        log_path: Path,
        on_exit: Callable[[], None],
    ) -> "Trainer":
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [
                    *command,
                    *("--spec", str(run_dir / SPEC_NAME)),
                    *("--run-dir", str(run_dir)),
                    *arguments,
                    "--exit-with-parent",
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        trainer = cls(process, log_path, on_exit)
        try:
            HEIR.watch(process.pid)
        except OSError:
            trainer.close()
            raise
        return trainer

    @property
    def pid(self) -> int:
        """The process id, which is also that of the group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return not self._exited.is_set()

    def wait(self, timeout: float) -> bool:
        """Whether the trainer's own process has ended, after ``timeout`` seconds at most."""
        return self._exited.wait(timeout)

    def terminate(self) -> None:
        """Ask for an end: SIGTERM to the trainer itself, which looks after its children."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group at once."""
        # The zombie leader keeps the group's number from being used again until close(). (Where a group is
        # nothing but zombies, macOS answers EPERM.)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """End what is left of the group and collect the trainer; its exit code, negative for a signal."""
        if self._process.returncode is None:
            self.kill()
            self._exited.wait()
            # Children that were forked between the signal and the leader's end.
            self.kill()
        HEIR.forget(self.pid)
        code = self._process.wait()
        self._watcher.join()
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    def log_tail(self) -> str:
        """The last lines that the trainer printed."""
        with self._log_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:]).strip()

    def _watch(self, on_exit: Callable[[], None]) -> None:
        if sys.platform == "linux":
            # WNOWAIT leaves the zombie in place: its process id, so its group's, stays ours until close().
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._exited.set()
        on_exit()
