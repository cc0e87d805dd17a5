"""What a trainer started ends with the worker, whoever of them and the guard was killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fixtures.workers import REPOSITORY, eventually
from trainer.system.guard import end_orphans

#: Told its child's id, neither looks at its standard input nor ends at a SIGTERM.
TRAINER = """
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
path = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1]) / "child"
path.with_suffix(".new").write_text(str(child.pid))
path.with_suffix(".new").rename(path)
signal.pause()
"""
#: Starts a trainer for each folder that it is told, and says the ids of trainer and guard.
WORKER = """
import pathlib, sys
import psutil
from worker.jobs.launcher import Trainer
trainers = []
for folder in sys.stdin:
    trainers.append(Trainer.start([sys.executable, "-c", sys.argv[1]], pathlib.Path(folder.strip()), 1))
    print(trainers[-1].pid, psutil.Process(trainers[-1].pid).ppid(), flush=True)
"""


class Worker:
    """A process with trainers and their guards."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, TRAINER],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start_trainer(self, name: str) -> tuple[psutil.Process, psutil.Process, psutil.Process]:
        """The trainer, its child and the guard."""
        folder = self._folder / name
        folder.mkdir()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        trainer, guard = map(int, self._process.stdout.readline().split())
        child = int(eventually(lambda: (path := folder / "child").exists() and path.read_text()))
        return psutil.Process(trainer), psutil.Process(child), psutil.Process(guard)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    process = Worker(tmp_path)
    yield process
    process.kill()


def test_a_trainers_child_ends_though_worker_and_trainer_were_killed_at_once(worker: Worker) -> None:
    trainer, child, guard = worker.start_trainer("one")
    _, other, same = worker.start_trainer("two")
    trainer.kill()
    worker.kill()
    assert not psutil.wait_procs([child, other, guard, same], timeout=10)[1]


def test_a_guard_that_was_killed_or_told_to_end_takes_nothing_from_another(worker: Worker) -> None:
    _, child, guard = worker.start_trainer("one")
    guard.kill()
    assert not psutil.wait_procs([child, guard], timeout=10)[1]
    trainer, other, successor = worker.start_trainer("two")
    assert successor != guard
    successor.send_signal(signal.SIGTERM)  # as whoever ends all that is below the worker
    trainer.kill()
    worker.kill()
    assert not psutil.wait_procs([other, successor], timeout=10)[1]


def test_a_child_of_which_everybody_who_knew_is_gone_ends_with_the_next_guard(worker: Worker) -> None:
    """Trainer and both processes of the guard, in one instant. Any guard that starts may be the next."""
    trainer, child, guard = worker.start_trainer("one")
    _, alive, _ = worker.start_trainer("two")
    reaper = guard.parent()
    assert reaper is not None
    for process in (trainer, guard, reaper):
        process.suspend()
    for process in (guard, reaper, trainer):
        process.kill()
    psutil.wait_procs([trainer], timeout=10)
    end_orphans()
    assert not psutil.wait_procs([child], timeout=10)[1]
    assert alive.is_running(), "it has a guard"
