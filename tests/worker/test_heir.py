"""What a trainer started ends with the worker, whoever of the three was killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fixtures.workers import REPOSITORY, eventually
from trainer.end_of_group import kill_group, start_time

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
#: Starts a trainer for each folder that it is told, and says the ids of trainer and heir.
WORKER = """
import pathlib, sys
from worker.launcher import HEIR, Trainer
trainers = []
for folder in sys.stdin:
    trainers.append(Trainer.start([sys.executable, "-c", sys.argv[1]], pathlib.Path(folder.strip()), 1))
    print(trainers[-1].pid, HEIR.pid, flush=True)
"""


class Worker:
    """A process with trainers and an heir."""

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
        """The trainer, its child and the heir."""
        folder = self._folder / name
        folder.mkdir()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        trainer, heir = map(int, self._process.stdout.readline().split())
        child = int(eventually(lambda: (path := folder / "child").exists() and path.read_text()))
        return psutil.Process(trainer), psutil.Process(child), psutil.Process(heir)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    process = Worker(tmp_path)
    yield process
    process.kill()


def test_a_trainers_child_ends_though_worker_and_trainer_were_killed_at_once(worker: Worker) -> None:
    trainer, child, heir = worker.start_trainer("one")
    _, other, same = worker.start_trainer("two")
    assert heir == same
    trainer.kill()
    worker.kill()
    assert not psutil.wait_procs([child, other, heir], timeout=10)[1]


def test_an_heir_that_was_killed_has_a_successor_which_knows_all(worker: Worker) -> None:
    trainer, child, heir = worker.start_trainer("one")
    heir.kill()
    eventually(lambda: heir.status() == psutil.STATUS_ZOMBIE)
    _, other, successor = worker.start_trainer("two")
    assert successor != heir
    successor.send_signal(signal.SIGTERM)  # as whoever ends all that is below the worker
    trainer.kill()
    worker.kill()
    assert not psutil.wait_procs([child, other, successor], timeout=10)[1]


def test_a_group_whose_leader_has_another_one_s_number_is_left_alone() -> None:
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        began = start_time(process.pid)
        kill_group(process.pid, str(int(began) - 1))
        process.stdin.write(b"alive")
        assert process.stdout.read(5) == b"alive"
        kill_group(process.pid, began)
        assert process.wait(10) == -signal.SIGKILL
