"""Nothing that runs under a guard outlives its owner."""

import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.workers import eventually
from trainer.system.guarded import Guarded, command_of, guard_command

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


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_all_processes_die_with_either_half_of_the_guard(start: Start, which: str) -> None:
    """What is in a session of its own and deaf to SIGTERM, too."""
    guard, below = stubborn(start, "deaf", grace=600)
    (inner,) = psutil.Process(guard.pid).children()
    (guard if which == "outer" else inner).kill()
    assert not psutil.wait_procs([inner, *below], timeout=20)[1]
    assert guard.wait(20) == (-signal.SIGKILL if which == "outer" else 128 + signal.SIGKILL)


def test_what_is_left_ends_when_owner_and_command_are_killed_at_once(start: Start) -> None:
    guard, below = stubborn(start, "deaf", grace=600)
    assert guard.stdin is not None
    below[0].suspend()  # so that it cannot see anything before its end
    guard.stdin.close()
    below[0].kill()
    assert guard.wait(20) == 128 + signal.SIGKILL
    assert not psutil.wait_procs(below, timeout=0)[1]


def test_the_command_is_found_below_its_guard(start: Start) -> None:
    guard, below = stubborn(start, "polite", grace=5)
    assert command_of(guard.pid) == below[0].pid
    guard.kill()
    guard.wait(20)
    assert command_of(guard.pid) is None


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


class Asked:
    """A command under a guard, as code has it that waits for no pipe of its own."""

    def __init__(self, code: str, **options: Any):
        read, write = os.pipe()
        self.exits = queue.SimpleQueue[str]()
        self.guarded = Guarded(
            [sys.executable, "-c", code],
            stdout=write,
            stderr=subprocess.STDOUT,
            on_exit=lambda: self.exits.put("ended"),
            **options,
        )
        os.close(write)
        self.output = os.fdopen(read)

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *_: object) -> None:
        self.guarded.close()
        self.output.close()


def test_an_owner_has_the_process_id_and_the_exit_code_of_the_command_itself() -> None:
    with Asked("import os; print(os.getpid(), flush=True); os.kill(os.getpid(), 11)") as one:
        assert int(one.output.readline()) == one.guarded.pid
        assert one.exits.get(timeout=20) == "ended"
        assert not one.guarded.running
        assert one.guarded.close() == -11
    with Asked("raise SystemExit(130)") as one:
        assert one.guarded.wait(20)
        assert one.guarded.close() == 130


def test_an_owner_that_asks_waits_for_as_long_as_the_command_takes() -> None:
    code = "import signal; signal.signal(15, lambda *_: exit(3)); print('up', flush=True); signal.pause()"
    with Asked(code) as one:
        assert one.output.readline() == "up\n"
        one.guarded.terminate()
        assert one.guarded.wait(20)
        assert one.guarded.close() == 3


@pytest.mark.parametrize("frozen", ["command", "guard"])
def test_what_is_frozen_is_ended(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if frozen == "guard":  # one that is not may take its time
        monkeypatch.setattr("trainer.system.guarded.ORDER_SECONDS", 0.3)
    child = "import time; time.sleep(600)"
    code = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True).pid, flush=True)
time.sleep(600)
"""
    with Asked(code) as one:
        left = psutil.Process(int(one.output.readline()))
        command = psutil.Process(one.guarded.pid)
        inner = command.parent()
        assert inner is not None
        for process in [command] if frozen == "command" else [inner, *inner.parents()[:1]]:
            process.suspend()
            # Of two signals that wait the lower one would come first: SIGTERM.
            eventually(lambda process=process: process.status() == psutil.STATUS_STOPPED)
        assert one.guarded.close() == -signal.SIGKILL
        assert not psutil.wait_procs([left, command, inner], timeout=10)[1]


def test_a_command_that_cannot_be_started_says_why() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/at-all"):
        Guarded(["/nowhere/at-all"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_descriptor_is_passed_to_the_command_alone() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as answers:
        code = f"import os; os.write({write}, b'here')"
        with Asked(code, pass_fds=[write]):
            os.close(write)
            assert answers.read() == "here", "and its end: no guard holds it open"


def test_processes_are_ended_in_one_place() -> None:
    """Beside the sandbox, which confines itself, nothing else asks the kernel for the end of others."""
    root = Path(__file__).parents[2]
    asking = re.compile(r"\b(prctl|killpg)\(|PR_SET_|os\.read\(0,")
    found = {
        path.relative_to(root).as_posix()
        for folder in ("app", "worker", "trainer")
        for path in (root / folder).rglob("*.py")
        if asking.search(path.read_text()) and "trainer/sandbox" not in path.as_posix()
    }
    assert found == {"trainer/system/guard.py"}
