"""Runs one command so that nothing of it can outlive whoever asked for it.

``python -I guard.py GRACE -- command…`` starts the command in a session of its own and reads its own
standard input, a pipe whose other end the owner holds:

- ``stop`` (or SIGTERM, SIGINT) asks the command to end: SIGTERM, and after GRACE seconds SIGKILL;
- ``kill`` ends it at once;
- end of file means that the owner is gone, even by ``kill -9``, and counts as ``stop``.

When the command has ended, whatever it started and left behind is killed too: on Linux this process is the
"child subreaper", so every orphan below it becomes its child and cannot hide in a process group of its own.
If this process itself is killed, the kernel kills the command (PR_SET_PDEATHSIG).
Exits with the command's status, 128 + signal where a signal ended it.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_SECONDS = 3.0


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere process groups and the pipe have to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants() -> list[int]:
    """Every process below this one."""
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Guard:
    """The event loop: the owner's pipe, signals, and the end of children."""

    def __init__(self, command: list[str], grace: float):
        self._grace = grace
        self._status: int | None = None
        self._kill_at: float | None = None
        self._wakeup, writer = socket.socketpair()
        self._wakeup.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._command = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )

    def run(self) -> int:
        sources: list[int | socket.socket] = [sys.stdin.fileno(), self._wakeup]
        while self._status is None:
            timeout = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
            ready, _, _ = select.select(sources, [], [], timeout)
            if sys.stdin.fileno() in ready:
                order = os.read(sys.stdin.fileno(), 4096)
                if not order:
                    sources.remove(sys.stdin.fileno())
                self._stop(now=b"kill" in order)
            if self._wakeup in ready:
                numbers = self._wakeup.recv(4096)
                if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                    self._stop()
                self._reap()
            if self._kill_at is not None and time.monotonic() >= self._kill_at and self._status is None:
                send(descendants(), signal.SIGKILL)
                self._kill_at = time.monotonic() + 1
        self._end_leftovers()
        return os.waitstatus_to_exitcode(self._status)

    def _stop(self, now: bool = False) -> None:
        if self._kill_at is None:
            send([self._command.pid], signal.SIGTERM)
            self._kill_at = time.monotonic() + self._grace
        if now:
            self._kill_at = time.monotonic()

    def _reap(self) -> bool:
        """Collect dead children; False when there is none left, dead or alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._command.pid:
                self._status = status
                # Popen must not wait for a process that is already collected.
                self._command.returncode = os.waitstatus_to_exitcode(status)

    def _end_leftovers(self) -> None:
        if not self._reap():
            return
        send(descendants(), signal.SIGTERM)
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while self._reap():
            if time.monotonic() >= deadline:
                send(descendants(), signal.SIGKILL)
            select.select([self._wakeup], [], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                self._wakeup.recv(4096)


def main(arguments: list[str]) -> int:
    grace, separator, *command = arguments
    if separator != "--" or not command:
        raise SystemExit("usage: guard.py GRACE -- command…")
    code = Guard(command, float(grace)).run()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
