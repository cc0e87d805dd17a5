"""A job's integrations, as its supervisor has them: set up before training, closed after it, never waited for
in between."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETUP_SECONDS = 120.0
#: For what remains to be handed over when the attempt has ended.
CLOSE_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Feed:
    """The process ``python -m worker.integrations`` of one attempt.

    ``warn`` is called from a thread with what the user should know.
    """

    def __init__(self, request: dict[str, Any], log: Path, warn: Callable[[str], None]):
        self._warn = warn
        self._answered = threading.Event()
        self._refusal: str | None = "The integrations ended while they were set up."
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.integrations"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        assert self._process.stdin is not None
        # A process that is gone already has its end told by the reader.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, name="integrations", daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """Whether it is known if they work, after ``seconds`` at most."""
        return self._answered.wait(seconds)

    @property
    def refusal(self) -> str | None:
        """Once known: why they cannot work, or None."""
        return self._refusal

    def close(self) -> None:
        """Let what remains be handed over, in a thread: nobody waits for it."""
        threading.Thread(target=self._close, name="integrations-close", daemon=True).start()

    def kill(self) -> None:
        """End it at once, with what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._warn(f"The integrations did not take all metrics within {CLOSE_SECONDS:g} s of the end.")
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self._refusal = None
                self._answered.set()
            elif "failed" in answer:
                self._refusal = answer["failed"]
                self._answered.set()
            else:
                _log.warning("%s", answer["warning"])
                self._warn(answer["warning"])
        if self._answered.is_set() and self._refusal is None and self._process.wait() != 0:
            self._warn("The integrations ended unexpectedly; they get no more metrics.")
        self._answered.set()
