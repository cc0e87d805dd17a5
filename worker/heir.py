"""Ends the process groups of trainers whose worker cannot do it any more. One small process a worker.

A trainer ends with its worker by itself, and a worker ends what a dead trainer leaves behind. When both are
killed in the same instant nobody is left to end the trainer's own children. So the worker tells its heir
which groups there are, over a pipe; its end, however the worker ended, is when the heir kills them.

The alternatives are weaker: a next attempt that cleans up may never come, or come to another machine; and a
process between the worker and each trainer, as ``worker.inference.warden`` stands before an engine, would be
one more that can be killed. Here it takes three: only who kills the worker, the trainer and the heir, but not
their children, leaves these behind.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading

from trainer.end_of_group import kill_group, start_time


class Heir:
    """The worker's side. The process starts with the first group, and again where it was killed."""

    def __init__(self) -> None:
        self._groups: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the heir's process, once there is one."""
        return self._process.pid if self._process is not None else None

    def watch(self, group: int) -> None:
        """``group``, the id of the process that leads it, is to end with this process. Raises OSError."""
        with self._lock:
            self._groups[group] = start_time(group)
            if not self._tell():
                self._process = _start()
                atexit.register(self.close)
                self._tell()

    def forget(self, group: int) -> None:
        """The group has ended; to be called before its number can come to mean another one."""
        with self._lock:
            self._groups.pop(group, None)
            self._tell()

    def close(self) -> None:
        """End the heir, which kills what has not been forgotten."""
        atexit.unregister(self.close)
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.wait()
                self._process = None

    def _tell(self) -> bool:
        """Whether the heir was there to be told. Each line is all that there is: a new one needs no other."""
        if self._process is None:
            return False
        assert self._process.stdin is not None
        line = " ".join(f"{group}:{started}" for group, started in self._groups.items())
        try:
            self._process.stdin.write(f"{line}\n".encode())
            return True
        except BrokenPipeError:
            self._process.stdin.close()
            self._process.wait()
            self._process = None
            return False


def _start() -> subprocess.Popen[bytes]:
    # In a session of its own: what is sent to the worker's group is not meant for it.
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.heir"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdout is not None
    with process.stdout as ready:
        ready.read()
    return process


def main() -> None:
    """The heir's side: wait for the end of standard input, then kill the groups of the last line."""
    # Whoever ends everything below the worker in good order first asks: this one has its own good time.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.close(1)  # says that it is ready
    last = rest = b""
    while more := os.read(0, 65536):
        *lines, rest = (rest + more).split(b"\n")
        last = lines[-1] if lines else last
    for word in last.decode().split():
        group, _, started = word.partition(":")
        kill_group(int(group), started)


if __name__ == "__main__":
    main()
