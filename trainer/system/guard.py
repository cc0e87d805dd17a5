"""Runs one command so that nothing of it can outlive whoever asked for it.

``python -I guard.py STOP LOST [--pass FD]… [--tell FD] -- command…`` starts the command in a session of its
own and reads its own standard input, a pipe whose other end the owner holds (``trainer.system.guarded``):

- ``stop`` (or SIGTERM, SIGINT) asks the command to end: SIGTERM, and after STOP seconds SIGKILL;
- ``kill`` ends it at once;
- end of file means that the owner is gone, even by ``kill -9``: SIGTERM, and after LOST seconds SIGKILL.

When the command has ended, whatever it started and left behind is ended too. Exits with the command's status,
128 + signal where a signal ended it. ``--pass``: a descriptor that the command inherits. ``--tell``: one that
gets a line ``pid N`` or ``error ERRNO`` when the command is started, and ``ended STATUS`` when it has ended.

The guard is two processes, of which either may be killed::

    owner ─ pipe ─▶ reaper ──fork──▶ guard ──▶ command ──▶ what it starts, in whatever session

On Linux both are "child subreapers": an orphan below becomes a child of theirs, and cannot hide in a session
or a process group of its own. Where the guard is killed, the reaper has its orphans and kills them; where the
reaper is killed, the guard sees the end of a pipe between them and kills all. Where both are killed at once,
the kernel still kills the command itself (PR_SET_PDEATHSIG). What the command had started is known by a mark
in its environment that names the reaper: :func:`end_orphans` kills what is marked with one that is gone. The
owner calls it, and every guard when it starts.
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
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_SECONDS = 3.0
#: In the environment of what runs under a guard: namespace, process id and start time of its reaper.
MARK = "POLICYSPLIT_GUARD"


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def end_with_parent() -> None:
    """This process is killed when the thread that made it ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(pid: int | None = None) -> list[int]:
    """Every process below this one, or below ``pid``."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def send(pids: list[int], number: int) -> None:
    """Send a signal to those that live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_self() -> None:
    """Kill this process and what it started; does not return."""
    send([*descendants(), os.getpid()], signal.SIGKILL)


def start_time(pid: int) -> str:
    """Tells a process from a later one with its id; empty where none lives, or the system does not say."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state == "Z" else fields[18]


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for the signal, which would else end it; False where nothing tells."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def end_orphans() -> None:
    """Kill every process of this user that ran under a guard of which nothing is left.

    Linux alone tells; elsewhere nothing is done.
    """
    namespace = _namespace()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            for variable in (folder / "environ").read_bytes().split(b"\0"):
                name, _, value = variable.decode(errors="replace").partition("=")
                if name == MARK:
                    where, pid, started = value.split("/")
                    if where == namespace and start_time(int(pid)) != started:
                        os.kill(int(folder.name), signal.SIGKILL)


def _namespace() -> str:
    """Within which process ids mean something; another container's may be seen from here."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    return ""


class Guard:
    """The inner process: the owner's pipe, signals, and the end of children.

    ``reaper`` comes to an end of file when the outer process has ended; ``stop`` and ``lost`` are seconds.
    """

    def __init__(
        self, command: list[str], stop: float, lost: float, *, reaper: int, passed: list[int], tell: int
    ):
        self._stop_seconds, self._lost_seconds = stop, lost
        self._reaper, self._tell = reaper, tell
        self._status: int | None = None
        self._asked = False
        self._kill_at = float("inf")
        self._wakeup, writer = socket.socketpair()
        self._wakeup.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        parent = os.getppid()
        try:
            self._command = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=passed,
                env=os.environ | {MARK: f"{_namespace()}/{parent}/{start_time(parent)}"},
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            self._say(f"error {error.errno}")
            raise
        for descriptor in passed:
            os.close(descriptor)
        self._say(f"pid {self._command.pid}")

    def run(self) -> int:
        """To the end of the command and all it started; the command's exit code, negative for a signal."""
        sources: list[int | socket.socket] = [sys.stdin.fileno(), self._wakeup, self._reaper]
        while self._reap():
            rest = self._kill_at - time.monotonic()
            ready, _, _ = select.select(sources, [], [], None if rest == float("inf") else max(0.0, rest))
            if sys.stdin.fileno() in ready:
                order = os.read(sys.stdin.fileno(), 4096)
                if not order:
                    sources.remove(sys.stdin.fileno())
                self._stop(0.0 if b"kill" in order else self._stop_seconds if order else self._lost_seconds)
            if self._reaper in ready:
                sources.remove(self._reaper)
                self._stop(0.0)
            if self._wakeup in ready:
                numbers = self._wakeup.recv(4096)
                if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                    self._stop(self._stop_seconds)
            if time.monotonic() >= self._kill_at:
                send(descendants(), signal.SIGKILL)
                # Again, for what was forked between the look and the signal.
                self._kill_at = time.monotonic() + 0.1
        assert self._status is not None
        return os.waitstatus_to_exitcode(self._status)

    def _stop(self, seconds: float) -> None:
        """Ask once for the end; SIGKILL after ``seconds``, or earlier where that was said before."""
        if not self._asked and self._status is None:
            self._asked = True
            send([self._command.pid], signal.SIGTERM)
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)

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
                self._say(f"ended {self._command.returncode}")
                send(descendants(), signal.SIGTERM)
                self._kill_at = min(self._kill_at, time.monotonic() + LEFTOVER_SECONDS)

    def _say(self, line: str) -> None:
        if self._tell >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._tell, f"{line}\n".encode())


def reap(guard: int) -> int:
    """The outer process: pass signals on to ``guard``, wait for it, end what it could not; its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: send([guard], received))
    end_orphans()
    _, status = os.waitpid(guard, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        while True:
            # Raises when there is no child: nothing was left.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            send(descendants(), signal.SIGKILL)
            os.waitpid(-1, 0)
    return os.waitstatus_to_exitcode(status)


def main(arguments: list[str]) -> int:
    """The guard of the command that ``arguments`` name; the exit code."""
    usage = "usage: guard.py STOP LOST [--pass FD]… [--tell FD] -- command…"
    if "--" not in arguments:
        raise SystemExit(usage)
    (stop, lost, *options), command = (
        arguments[: arguments.index("--")],
        arguments[arguments.index("--") + 1 :],
    )
    descriptors = {"--pass": list[int](), "--tell": list[int]()}
    for name, descriptor in zip(options[::2], options[1::2], strict=True):
        descriptors[name].append(int(descriptor))
    passed, tell = descriptors["--pass"], (descriptors["--tell"] or [-1])[0]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    ended, alive = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.close(alive)
        try:
            code = Guard(command, float(stop), float(lost), reaper=ended, passed=passed, tell=tell).run()
        except OSError as error:
            print(error, file=sys.stderr)
            code = 127
    else:
        os.close(ended)
        for descriptor in passed:
            os.close(descriptor)
        code = reap(guard)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
