"""Scorers that read responses with parsers of others (math-verify, reasoning-gym), in a child of their own.

Such a parser may take for ever, or all memory, over a response that it was not made for, and no thread can
be stopped: so the child is killed, with a time limit that works in any thread, and a new one is started.
``python -m trainer.graders.scorer_process`` is the child.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.grade import ConcurrentGrader, Grade, GraderError, Sample, finite
from trainer.graders.process import ChildDied, ChildProcess, ChildTimedOut

START_SECONDS = 120.0
MEMORY_BYTES = 4 << 30
_PR_SET_PDEATHSIG = 1
# The operator's secrets and the service's addresses are nothing that a scorer needs.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHASHSEED")

Score = Callable[[dict[str, Any]], dict[str, Any]]
"""Of a question to ``{"score"}`` or ``{"error"}``."""


class ScoredByProcess(ConcurrentGrader):
    """A child a thread. ``question`` makes the message of a sample, ``grade`` the Grade of a score."""

    def __init__(
        self,
        scorer: dict[str, Any],
        seconds: float,
        question: Callable[[Sample], dict[str, Any]],
        grade: Callable[[float], Grade],
        children: int,
    ):
        self._scorer, self._seconds, self._question, self._to_grade = scorer, seconds, question, grade
        self._children: dict[int, ChildProcess] = {}
        super().__init__(f"{scorer['type']}-grader", children)
        try:
            self._threads.submit(self._child).result()
        except InvalidSpec:
            self.close()
            raise

    def grade_one(self, sample: Sample) -> Grade:
        question = self._question(sample)
        try:
            answer = self._child().request(question, self._seconds)
        except ChildTimedOut:
            self._children.pop(threading.get_ident(), None)
            raise GraderError(
                f"no score within {self._seconds:g} s; the scorer was killed", "unresponsive_reward_error"
            ) from None
        except (ChildDied, InvalidSpec) as error:
            self._children.pop(threading.get_ident(), None)
            raise GraderError(f"the scorer ended: {error}") from None
        if "score" not in answer:
            raise GraderError(answer["error"])
        return self._to_grade(finite(answer["score"], "the score"))

    def close(self) -> None:
        super().close()
        for child in self._children.values():
            child.close()

    def _child(self) -> ChildProcess:
        """This thread's child; raises InvalidSpec when the scorer cannot be set up."""
        found = self._children.get(threading.get_ident())
        if found is not None:
            return found
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        command = [sys.executable, "-m", "trainer.graders.scorer_process"]
        child = ChildProcess(command, environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        try:
            answer = child.request(self._scorer, START_SECONDS)
        except (ChildDied, ChildTimedOut) as error:
            raise InvalidSpec(
                f"the scorer {self._scorer['type']} cannot be started: {error}", "grader"
            ) from None
        if "error" in answer:
            child.close()
            raise InvalidSpec(answer["error"], "grader")
        self._children[threading.get_ident()] = child
        return child


def _scorer(settings: dict[str, Any]) -> Score:
    if settings["type"] == "environment":
        from trainer.graders.environment import scorer

        return scorer(settings["task"], settings["parameters"])
    from trainer.graders.math_verify import equal

    equal({"text": "\\boxed{1}", "reference": "1"})  # imports what takes a second, before time is counted
    return equal


def main() -> None:
    """Answer questions until the end of input, or of the thread that started us, even amid a question."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What scorers print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    try:
        score = _scorer(json.loads(sys.stdin.readline()))
    except InvalidSpec as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    print("{}", file=answers, flush=True)
    os.dup2(null, 2)
    for line in sys.stdin:
        try:
            answer = score(json.loads(line))
        except Exception as error:
            answer = {"error": f"the scorer failed: {type(error).__name__}: {str(error)[:500]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
