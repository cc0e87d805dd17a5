"""A job's integrations, as its supervisor has them: set up before training, closed after it, never waited for
in between."""

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from app.core.settings import get_settings
from app.core.strict_json import JsonObject
from trainer.system.environment import inherited
from trainer.system.guarded import Guarded

#: The variables by which each is told where to send to, with which key.
_FAMILIES = {"wandb": "WANDB_", "mlflow": "MLFLOW_"}
SETUP_SECONDS = 120.0
#: For what remains to be handed over when the attempt has ended.
CLOSE_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Feed:
    """The process ``python -m worker.integrations`` of one attempt.

    ``warn`` is called from a thread with what the user should know.
    """

    def __init__(self, request: JsonObject, log: Path, warn: Callable[[str], None]):
        self._warn = warn
        self._answered = threading.Event()
        self._refusal: str | None = "The integrations ended during set-up."
        asked, ask = os.pipe()
        answers, answer = os.pipe()
        self._ask, self._answers = os.fdopen(ask, "w"), os.fdopen(answers)
        try:
            with log.open("ab") as errors:
                self._process = Guarded(
                    [sys.executable, "-P", "-m", "worker.integrations", str(asked)],
                    stdout=answer,
                    stderr=errors,
                    environment=_environment([str(one["type"]) for one in request["integrations"]]),
                    pass_fds=[asked],
                    lost_seconds=CLOSE_SECONDS,
                )
        except BaseException:
            self._answers.close()
            self._ask.close()
            raise
        finally:
            os.close(asked)
            os.close(answer)
        # A process that is gone already has its end told by the reader.
        with contextlib.suppress(BrokenPipeError):
            self._ask.write(json.dumps(request) + "\n")
            self._ask.flush()
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
        self._process.close()
        self._reader.join()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._ask.close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._ask.close()
        if not self._process.wait(CLOSE_SECONDS):
            self._warn(f"The integrations had not received all metrics {CLOSE_SECONDS:g} s after the end.")
        self.kill()

    def _read(self) -> None:
        for line in self._answers:
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
        if self._answered.is_set() and self._refusal is None and self._process.exit_code() != 0:
            self._warn("The integrations ended unexpectedly and receive no more metrics.")
        self._answered.set()


def _environment(kinds: list[str]) -> dict[str, str]:
    """With the keys of these trackers and of no others."""
    families = tuple(_FAMILIES[kind] for kind in kinds if kind in _FAMILIES)
    return inherited(get_settings().integration_environment, families) | {"PYTHONUNBUFFERED": "1"}
