"""A silent trainer: first its stack is recorded in an event, and only much later it is ended.

Progress is the growth of its event file: a trainer writes a line at each phase and, within long ones,
whenever something was sampled, graded or computed. So a healthy step may take as long as it likes.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.core.settings import Settings
from trainer.system.guard import catches
from worker.jobs.launcher import Trainer, events_name

#: From the signal to a stack that is written whole.
DUMP_SECONDS = 1.0
MAX_STACK = 16_384


@dataclass(frozen=True)
class Stall:
    """What to report about a trainer that made no progress for ``seconds``."""

    seconds: float
    state: str
    stack: str

    @property
    def message(self) -> str:
        """A sentence for the job's events."""
        told = f"The trainer has reported nothing for {self.seconds:.0f} s (its process is {self.state})"
        return f"{told}; its stack is in this event's data." if self.stack else f"{told} and shows no stack."


class StallWatch:
    """Watches one trainer; to be called from time to time."""

    def __init__(self, trainer: Trainer, run_dir: Path, attempt: int, settings: Settings):
        self._trainer, self._settings = trainer, settings
        self._events = run_dir / events_name(attempt)
        self._run_dir, self._attempt = run_dir, attempt
        self._size = -1
        self._since = time.monotonic()
        self._asked_at: float | None = None
        self._read_from: dict[Path, int] = {}
        self._told = False

    def look(self) -> Stall | None:
        """A stall to report, once for each: the dump was requested a moment ago."""
        now = time.monotonic()
        if (size := _size(self._events)) != self._size:
            self._size, self._since, self._asked_at, self._told = size, now, None, False
        limit = self._settings.stall_dump_seconds
        if self._told or not limit or now - self._since < limit:
            return None
        if self._asked_at is None:
            self._asked_at, self._read_from = now, {path: _size(path) for path in self._stacks()}
            self._ask_for_stacks()
            return None
        if now - self._asked_at < DUMP_SECONDS:
            return None
        return Stall(now - self._since, self._state(), self._read_stacks())

    def told(self) -> None:
        """The stall has been reported."""
        self._told = True

    @property
    def hopeless(self) -> bool:
        """Whether to end the trainer; never before its stall was reported."""
        limit = self._settings.stall_seconds
        dumped = self._told or not self._settings.stall_dump_seconds
        return bool(limit) and dumped and time.monotonic() - self._since >= limit

    def _ask_for_stacks(self) -> None:
        # A process without a handler would be ended by the signal.
        if self._trainer.running and catches(self._trainer.pid, signal.SIGUSR1):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._trainer.pid, signal.SIGUSR1)

    def _stacks(self) -> list[Path]:
        """The files of the trainer's processes, the first rank's first (``trainer.__main__``)."""
        of_ranks = self._run_dir.glob(f"stacks-{self._attempt}-rank*.txt")
        number = {path: int(path.stem.rpartition("rank")[2]) for path in of_ranks}
        return [self._run_dir / f"stacks-{self._attempt}.txt", *sorted(number, key=number.__getitem__)]

    def _read_stacks(self) -> str:
        """What each has written since it was asked, an equal part of what an event may have."""
        paths = self._stacks()
        found: list[str] = []
        for rank, path in enumerate(paths):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._read_from.get(path, 0))
                if text := file.read(MAX_STACK // len(paths)).decode(errors="replace").strip():
                    found.append(text if len(paths) == 1 else f"rank {rank}:\n{text}")
        return "\n\n".join(found)

    def _state(self) -> str:
        try:
            return psutil.Process(self._trainer.pid).status()
        except psutil.Error:
            return "unknown"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1 if path.suffix == ".jsonl" else 0
