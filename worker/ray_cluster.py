"""What the Ray cluster has that this worker's jobs may run on, asked now and then by a process of its own."""

import json
import logging
import subprocess
import sys
import threading
import time

from app.core.settings import Settings
from app.core.strict_json import JsonObject
from trainer.errors import TrainerError
from trainer.gang.cluster import ADDRESS, try_to_reach
from trainer.system.environment import inherited

ASK_SECONDS = 60.0
#: A cluster without hosts is one that has just been started.
EMPTY_SECONDS = 9.0
#: Whether its head can be reached is looked at more often: jobs are not to be spent on one that is away.
LOOK_SECONDS = 3.0
ANSWER_SECONDS = 60.0
_log = logging.getLogger(__name__)


class RayCluster:
    """``seen`` is what the worker's row says: None where the worker has none to speak of."""

    def __init__(self, settings: Settings):
        self.seen: JsonObject | None = None
        self._address = settings.ray_address
        self._device = settings.ray_device
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def answers(self) -> bool:
        """Whether there is one, and jobs may be placed on it."""
        return self.seen is not None and self.seen["problem"] is None

    def start(self) -> None:
        """Begin to ask, in a thread of its own; the first answer takes a few seconds."""
        if self._address:
            self.seen = self._told([], "It has not been contacted yet.")
            self._thread = threading.Thread(target=self._run, name="ray-cluster", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            reached = self._reached()
            seen = self.ask()
            if self.seen is None or seen["problem"] != self.seen["problem"]:
                _log.info("the Ray cluster at %s: %s", self._address, seen["problem"] or seen["hosts"])
            self.seen = seen
            self._wait(EMPTY_SECONDS if self.answers and not seen["hosts"] else ASK_SECONDS, reached)

    def _wait(self, seconds: float, reached: bool) -> None:
        """So long, or until its head has come or gone."""
        until = time.monotonic() + seconds
        while not self._ended.wait(LOOK_SECONDS) and time.monotonic() < until:
            if self._reached() != reached:
                return

    def _reached(self) -> bool:
        try:
            try_to_reach(self._address)
        except TrainerError:
            return False
        return True

    def ask(self) -> JsonObject:
        """Its address, how many GPUs (or CPUs) each of its hosts has, or the problem."""
        command = [sys.executable, "-P", "-m", "trainer.gang.inventory"]
        if self._device == "cpu":
            command.append("--cpu")
        environment = inherited(families=("RAY_",)) | {ADDRESS: self._address}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=ANSWER_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return self._told([], f"It does not answer: {error}")
        if done.returncode != 0:
            return self._told([], (done.stderr.strip().splitlines() or ["It does not answer."])[-1])
        return self._told(json.loads(done.stdout.splitlines()[-1]), None)

    def _told(self, hosts: list[int], problem: str | None) -> JsonObject:
        return {"address": self._address, "device": self._device, "hosts": hosts, "problem": problem}
