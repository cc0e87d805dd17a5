"""The owner's side of a guard: start a command under one, ask for its end, be sure of it (torch-free)."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import psutil

from trainer.system import guard
from trainer.system.guard import end_orphans

#: For a guard to carry out an order; one that takes longer is frozen.
ORDER_SECONDS = 10.0


def guard_command(
    command: Sequence[str], stop_seconds: float, lost_seconds: float | None = None, *options: str
) -> list[str]:
    """``command`` under its guard: give it a pipe as standard input, and close it when nobody wants it more.

    Args:
        stop_seconds: from the order to stop to the end by force; infinite: until the order to kill.
        lost_seconds: likewise from the end of the pipe; None: the same.
    """
    lost = stop_seconds if lost_seconds is None else lost_seconds
    return [sys.executable, "-I", guard.__file__, str(stop_seconds), str(lost), *options, "--", *command]


@contextlib.contextmanager
def guarded(
    command: list[str],
    stop_seconds: float,
    stdout: int | IO[str] | IO[bytes],
    stderr: int | IO[str] | IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """Run ``command`` during the block; afterwards it and everything it started are gone."""
    process = subprocess.Popen(
        guard_command(command, stop_seconds),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def command_of(guard: int) -> int | None:
    """The process id of the command under a guard, which has the id ``guard``; None when there is none."""
    with contextlib.suppress(psutil.Error):
        for inner in psutil.Process(guard).children():
            # Orphans that the guard has taken in are younger, or were started by the command.
            below = sorted(inner.children(), key=lambda child: child.create_time())
            return below[0].pid if below else None
    return None


def kill_guard(pid: int) -> None:
    """Kill both processes of a guard that carries no order out, being frozen; what is left are orphans."""
    with contextlib.suppress(psutil.NoSuchProcess):
        reaper = psutil.Process(pid)
        for process in [*reaper.children(), reaper]:
            process.kill()


class Guarded:
    """A command under its guard, known by its own process id and its own exit code.

    ``on_exit`` is called from a thread when the command has ended; ``pass_fds`` are inherited by it.
    It is asked with :meth:`terminate`, made to with :meth:`kill`; :meth:`close` is to be called in any case.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: int | IO[str] | IO[bytes],
        stderr: int | IO[str] | IO[bytes],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        lost_seconds: float = 0.0,
        on_exit: Callable[[], None] = lambda: None,
    ):
        """Raises OSError when the command cannot be started."""
        read, write = os.pipe()
        options = [word for descriptor in pass_fds for word in ("--pass", str(descriptor))]
        try:
            self._guard = subprocess.Popen(
                guard_command(command, float("inf"), lost_seconds, *options, "--tell", str(write)),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                pass_fds=[*pass_fds, write],
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._told = os.fdopen(read)
        self._exit_code: int | None = None
        self._exited = threading.Event()
        word, _, number = self._told.readline().partition(" ")
        if word != "pid":
            self._told.close()
            self._end()
            code = int(number) if word == "error" else 0
            raise OSError(code, os.strerror(code) if code else "its guard was killed", command[0])
        self.pid = int(number)
        self._watcher = threading.Thread(
            target=self._watch, args=(on_exit,), name=f"watch-{self.pid}", daemon=True
        )
        self._watcher.start()

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return not self._exited.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the command itself has ended, after ``timeout`` seconds at most."""
        return self._exited.wait(timeout)

    def exit_code(self) -> int | None:
        """Of the command, negative for a signal, once it has ended; None where its guard was killed."""
        self._exited.wait()
        return self._exit_code

    def terminate(self) -> None:
        """Ask for an end: SIGTERM to the command itself, which looks after its children."""
        self._order(b"stop\n")

    def kill(self) -> None:
        """End it and everything it started at once, without waiting for that."""
        self._order(b"kill\n")

    def close(self) -> int:
        """End what is left; the command's exit code, negative for a signal. All is gone on return."""
        if self._guard.returncode is None:
            self.kill()
            self._end()
            self._watcher.join(ORDER_SECONDS)
        if self._exit_code is not None:
            return self._exit_code
        # Not even the guard could tell: it was killed, and the kernel killed the command with it.
        code = self._guard.wait()
        return 128 - code if code > 128 else code

    def _order(self, order: bytes) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._guard.stdin.write(order)

    def _end(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(ORDER_SECONDS)
        except subprocess.TimeoutExpired:
            kill_guard(self._guard.pid)
            self._guard.wait()
        if self._guard.returncode < 0 or self._guard.returncode == 128 + 9:
            end_orphans()

    def _watch(self, on_exit: Callable[[], None]) -> None:
        with self._told as lines:
            for line in lines:
                self._exit_code = int(line.partition(" ")[2])
                break
            self._exited.set()
            on_exit()
            for _ in lines:  # to its end, which is the guard's
                pass
