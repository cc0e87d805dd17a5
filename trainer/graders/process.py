"""A child process that answers requests, a JSON line each way, within a time limit or not at all."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from typing import Any

MAX_REPLY_BYTES = 1 << 20
_CHUNK = 1 << 16


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class ChildTimedOut(Exception):
    """The child did not answer in time; it has been killed."""


class ChildDied(Exception):
    """The child ended, or said what is no answer; it has been killed."""


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

    def request(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to ``message``. Raises ChildTimedOut or ChildDied, after killing the child."""
        try:
            return self._exchange(json.dumps(message).encode() + b"\n", time.monotonic() + seconds)
        except BaseException:
            self.close()
            raise

    def _exchange(self, data: bytes, deadline: float) -> dict[str, Any]:
        sent, reply = 0, bytearray()
        wait = select.poll()
        wait.register(self._in, select.POLLOUT)
        wait.register(self._out, select.POLLIN)
        wait.register(self._err, select.POLLIN)
        while not reply.endswith(b"\n"):
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
                    reply += chunk
                elif not self._listen():
                    wait.unregister(self._err)
        try:
            answer = json.loads(reply)
        except ValueError as error:
            raise ChildDied(f"it answered what is no JSON: {error}") from error
        return answer

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
        return self._said.decode(errors="replace").strip() or "it ended without a word"

    def close(self) -> None:
        """Kill it; the kernel ends everything in a sandbox with it."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
