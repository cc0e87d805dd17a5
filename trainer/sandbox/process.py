"""A child process that answers requests, a line each way, within a time limit or not at all."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

MAX_REPLY_BYTES = 16 << 20
_CHUNK = 1 << 16


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class ChildTimedOut(Exception):
    """The child did not answer in time; it has been killed."""


class ChildDied(Exception):
    """The child ended, or said too much; it has been killed."""


class ChildProcess:
    """Started at once; one request at a time. After an exception it is dead: start another.

    It stays in our process group, so that whoever ends the group ends it, too.
    """

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        # Standard error is for the start alone (bwrap says there why it cannot); graders write to nothing.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        self._said = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def request(self, line: bytes, seconds: float) -> bytes:
        """The answer to ``line``. Raises ChildTimedOut or ChildDied, after killing the child."""
        (answer,) = self.requests([line], seconds)
        return answer

    def requests(self, lines: Sequence[bytes], seconds: float) -> Iterator[bytes]:
        """The answers to ``lines``, each as it comes, within ``seconds`` of the one before. Raises likewise.

        They are sent together, behind a line that says how many they are.
        """
        whole = False
        try:
            yield from self._exchange(b"\n".join([b"%d" % len(lines), *lines, b""]), len(lines), seconds)
            whole = True
        finally:
            if not whole:
                self.close()

    def _exchange(self, data: bytes, count: int, seconds: float) -> Iterator[bytes]:
        sent, reply, deadline = 0, bytearray(), time.monotonic() + seconds
        wait = select.poll()
        wait.register(self._in, select.POLLOUT)
        wait.register(self._out, select.POLLIN)
        wait.register(self._err, select.POLLIN)
        while count:
            if (left := deadline - time.monotonic()) <= 0:
                raise ChildTimedOut
            for descriptor, _ in wait.poll(left * 1000):
                if descriptor == self._in:
                    try:
                        sent += os.write(self._in, data[sent : sent + _CHUNK])
                    except BrokenPipeError:
                        raise ChildDied(self._last_words()) from None
                    if sent == len(data):
                        wait.unregister(self._in)
                elif descriptor == self._out:
                    chunk = os.read(self._out, _CHUNK)
                    if not chunk or len(reply) > MAX_REPLY_BYTES:
                        raise ChildDied(self._last_words())
                    *answers, rest = chunk.split(b"\n")
                    for answer in answers:
                        yield bytes(reply) + answer
                        reply.clear()
                    reply += rest
                    if answers:
                        count -= len(answers)
                        deadline = time.monotonic() + seconds
                elif not self._listen():
                    wait.unregister(self._err)

    def _listen(self) -> bool:
        """Keep the end of what the child writes to standard error; whether it may write more."""
        chunk = os.read(self._err, _CHUNK)
        self._said = (self._said + chunk)[-2000:]
        return bool(chunk)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        with contextlib.suppress(BlockingIOError):
            while self._listen():
                pass
        return self._said.decode(errors="replace").strip() or "it ended without giving a reason"

    def kill(self) -> None:
        """Have it end, while another thread may be waiting for its answer."""
        self._process.kill()

    def close(self) -> None:
        """Kill it; the kernel ends everything in a sandbox with it."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
