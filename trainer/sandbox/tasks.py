"""Tasks of reasoning-gym, from outside: their items, and what is wrong with a task before there are any."""

import atexit
import os
import threading
from functools import lru_cache
from typing import Any

from trainer.sandbox.inside import values
from trainer.sandbox.inside.environment import OURS
from trainer.sandbox.sandbox import Sandbox, Service

__all__ = ["OURS", "Tasks", "task_service", "tasks"]

#: An item may take a search; of the hardest tasks with default parameters, a second.
ITEM_SECONDS = 120.0
CHECK_SECONDS = 30.0
_ITEM_BYTES = 8 << 20


def task_service(
    task: str,
    parameters: dict[str, object],
    *,
    seconds: float,
    size: int = 1,
    seed: int = 0,
    tripwire: bool = True,
) -> Service:
    """Scores answers, and draws items of a data set of ``size`` items."""
    setup = {"task": task, "parameters": parameters, "size": size, "seed": seed}
    return Service("environment", seconds, setup, tripwire=tripwire, answer_bytes=_ITEM_BYTES)


class Tasks:
    """Says what is wrong with tasks and parameters, each asked of a process of its own. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def problem_of(self, task: str, parameters: dict[str, object]) -> dict[str, Any]:
        """As ``inside.environment.problem_of``. Raises NoIsolation."""
        question = values.dumps({"task": task, "parameters": parameters})
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(Service("environment", CHECK_SECONDS, alone=True))
                atexit.register(_close, self._sandbox, os.getpid())
            answer = self._sandbox.ask(question)
        for kind in ("late", "failed", "down", "refused", "error"):
            if kind in answer:
                return {"where": "parameters", "message": f"they cannot be checked: it {answer[kind]}"}
        return answer


def _close(sandbox: Sandbox, owner: int) -> None:
    """At the end of the process that started it, and of no fork of that."""
    if os.getpid() == owner:
        sandbox.close()


def tasks() -> Tasks:
    """One for this process."""
    return _tasks(os.getpid())


@lru_cache
def _tasks(_process: int) -> Tasks:
    return Tasks()
