"""Graders whose work is done in sandboxes that are started beforehand: sources and parsers of others."""

import queue
from collections.abc import Callable, Sequence
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.grade import ConcurrentGrader, Grade, GraderError, Sample, caught
from trainer.sandbox.bubblewrap import NoIsolation, refusal
from trainer.sandbox.process import cores
from trainer.sandbox.sandbox import Refused, Sandbox, Service, require_isolation

MAX_SANDBOXES = 16
#: Questions to libraries, which share a process: so many are sent to it at once.
TOGETHER = 16
#: Characters of an answer's normal form that count.
MAX_FORM = 1000

Answer = dict[str, Any]


class Sandboxed(ConcurrentGrader):
    """As many sandboxes as threads. ``question`` puts a sample into words, ``grade`` reads the answer.

    Raises InvalidSpec, which names ``what``, where there is no isolation; and with ``param``, where the
    service refuses its set-up.
    """

    def __init__(
        self,
        service: Service,
        question: Callable[[Sample], str],
        grade: Callable[[Answer], Grade],
        sandboxes: int | None = None,
        *,
        what: str,
        param: str = "grader",
        gives_answers: bool = False,
    ):
        check_isolation(what)
        self._question, self._to_grade, self.gives_answers = question, grade, gives_answers
        self.together = 1 if service.alone else TOGETHER
        count = sandboxes or min(cores(), MAX_SANDBOXES)
        super().__init__(f"{service.name}-grader", count)
        self._idle: queue.LifoQueue[Sandbox] = queue.LifoQueue()
        self._sandboxes: list[Sandbox] = []
        starting = [self._threads.submit(Sandbox, service) for _ in range(count)]
        problem = None
        for one in starting:
            try:
                self._sandboxes.append(one.result())
            except (Refused, NoIsolation) as error:
                problem = error
        if problem is not None:
            self.close()
            raise InvalidSpec(f"{what} does not load: {problem}", param)
        for sandbox in self._sandboxes:
            self._idle.put(sandbox)

    def grade_one(self, sample: Sample) -> Grade:
        (grade,) = self.grade_together([sample])
        return grade

    def grade_together(self, samples: Sequence[Sample]) -> list[Grade]:
        asked = [caught(self._question, sample) for sample in samples]
        answers = iter(self.ask_many([one for one in asked if isinstance(one, str)]))
        return [
            one if isinstance(one, Grade) else caught(lambda _: self._to_grade(next(answers)), sample)
            for one, sample in zip(asked, samples, strict=True)
        ]

    def ask_many(self, questions: Sequence[str]) -> list[Answer]:
        """The answers of a sandbox that is free."""
        sandbox = self._idle.get()
        try:
            return sandbox.ask_many(questions)
        finally:
            self._idle.put(sandbox)

    def close(self) -> None:
        # First: what a thread still waits for would take its whole time.
        for sandbox in self._sandboxes:
            sandbox.end()
        super().close()
        for sandbox in self._sandboxes:
            sandbox.close()


def scored(answer: Answer) -> float:
    """The score of a library's answer. Raises GraderError where there is none."""
    if "late" in answer:
        raise GraderError(f"the scorer {answer['late']}", "unresponsive_reward_error")
    if "failed" in answer:
        raise GraderError(f"the scorer {answer['failed']}")
    if "score" not in answer:
        raise GraderError(str(answer.get("error") or answer.get("down") or "the scorer gave no score"))
    return float(answer["score"])


def answer_form(answer: Answer) -> str | None:
    """The normal form that is given beside a score."""
    form = answer.get("answer")
    return form[:MAX_FORM] if isinstance(form, str) else None


def check_isolation(what: str) -> None:
    """Raise InvalidSpec where there can be no sandbox for ``what``."""
    try:
        require_isolation()
    except NoIsolation as error:
        raise InvalidSpec(f"{what} {refusal(error)}", "grader") from None
