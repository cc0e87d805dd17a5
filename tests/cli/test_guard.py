"""Nothing that runs under a guard outlives its owner."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.cli.guarded import guard_command

# Starts a grandchild in a session of its own that ignores SIGTERM, as a careless engine would; both say
# their process ids.
STUBBORN = textwrap.dedent(
    """
    import os, signal, subprocess, sys, time
    if sys.argv[1] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(os.getpid(), child.pid, flush=True)
    time.sleep(600)
    """
)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command under a guard whose pipe this test holds."""
    started: list[subprocess.Popen[str]] = []

    def run(*command: str, grace: float = 5.0) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            guard_command(list(command), grace), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        process.wait(20)


def stubborn(start: Start, kind: str, grace: float) -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    guard = start(sys.executable, "-c", STUBBORN, kind, grace=grace)
    assert guard.stdout is not None
    return guard, [psutil.Process(int(pid)) for pid in guard.stdout.readline().split()]


@pytest.mark.parametrize("kind", ["polite", "deaf"])
def test_all_processes_end_when_the_owner_is_gone(start: Start, kind: str) -> None:
    guard, below = stubborn(start, kind, grace=0.2 if kind == "deaf" else 10)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(20) == 128 + (signal.SIGTERM if kind == "polite" else signal.SIGKILL)
    assert not psutil.wait_procs(below, timeout=0)[1]


def test_kill_does_not_wait_for_the_grace_period(start: Start) -> None:
    guard, below = stubborn(start, "deaf", grace=600)
    assert guard.stdin is not None
    guard.stdin.write("kill\n")
    guard.stdin.flush()
    assert guard.wait(20) == 128 + signal.SIGKILL
    assert not psutil.wait_procs(below, timeout=0)[1]


def test_the_command_dies_with_its_guard(start: Start) -> None:
    guard, below = stubborn(start, "deaf", grace=600)
    guard.kill()
    assert not psutil.wait_procs(below[:1], timeout=20)[1]
    below[1].kill()  # nobody is left who could have known of it


def test_the_status_is_the_commands(start: Start) -> None:
    assert start(sys.executable, "-c", "raise SystemExit(7)").wait(20) == 7


def test_what_the_command_left_behind_is_ended(start: Start, tmp_path: Path) -> None:
    left = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib; "
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']; "
        "child = subprocess.Popen(sleep, start_new_session=True); "
        f"pathlib.Path({str(left)!r}).write_text(str(child.pid))"
    )
    assert start(sys.executable, "-c", code).wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(left.read_text()), 0)
