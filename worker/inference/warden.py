"""Runs one engine and ends it with the inference worker, however that ends.

Started as a script (``python -I warden.py GRACE_SECONDS COMMAND…``) in a session of its own; standard library
only. Its standard input is a pipe that the inference worker holds open: when the pipe closes, also because
the worker was killed with SIGKILL, or on SIGTERM, the engine's whole process group gets SIGTERM and after
the grace period SIGKILL. On Linux the engine also dies with the warden itself (PR_SET_PDEATHSIG), but what
the engine started would not: vLLM's own processes live on without their server. So the warden has an heir, a
child that waits for its death and then kills the group.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> Callable[[], None]:
    """What the engine's process runs before it becomes the engine. The warden has one thread, so it may."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the warden ended before the line above took effect
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, a group of zombies
        os.killpg(leader, number)


def _leave_an_heir(group: int) -> int:
    """Fork a process that kills ``group`` once this one has ended without writing to what is returned."""
    ended, alive = os.pipe()
    if os.fork() > 0:
        os.close(ended)
        return alive
    os.setsid()
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        for standard in range(3):
            os.dup2(nothing.fileno(), standard)
    os.dup2(ended, 3)
    os.closerange(4, 1024)
    if not os.read(3, 1):
        _signal_group(group, signal.SIGKILL)
    os._exit(0)


def run(grace_seconds: float, command: list[str]) -> int:
    """Run ``command`` until it exits or is to be stopped; its exit code, 128 + n for signal n."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    engine = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with(os.getpid())
    )
    alive = _leave_an_heir(engine.pid)
    watched = [sys.stdin.fileno(), woken]
    while engine.poll() is None and not stopping:
        ready, _, _ = select.select(watched, [], [])
        if woken in ready:
            os.read(woken, 512)
        if watched[0] in ready and not os.read(watched[0], 512):
            break
    if engine.poll() is None:
        _signal_group(engine.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(grace_seconds)
    _signal_group(engine.pid, signal.SIGKILL)
    code = engine.wait()
    os.write(alive, b".")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), sys.argv[2:]))
