"""What graders take and give, and the one interface behind which all of them stand."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from trainer.graders.thoughts import split_thoughts
from trainer.graders.tool_calls import tool_calls

ErrorKind = Literal[
    "formula_parse_error",
    "invalid_variable_error",
    "model_grader_parse_error",
    "model_grader_refusal_error",
    "model_grader_server_error",
    "other_error",
    "python_grader_runtime_error",
    "python_grader_server_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
]
"""OpenAI's flags: what kind of thing went wrong. ``unresponsive_reward_error``: no reward came in time."""
BEAT_SECONDS = 1.0
Found = TypeVar("Found")
#: How far beyond an end of the scale a sum of floats may come to lie.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Grade:
    """A reward, or the reason why there is none: an error is never silently a zero."""

    reward: float | None
    """In [0, 1]."""
    scores: dict[str, float] = field(default_factory=dict)
    """By grader's name, each on the scale of its own."""
    error: str | None = None
    kind: ErrorKind = "other_error"
    """Of the error, where there is one."""
    value: float | None = None
    """What a ``multi`` grader's formula sees; None: the reward."""
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    """Tokens by judge model."""
    parse_error: str | None = None
    """Why the response is not of the run's ``response_format``; its reward is 0 then."""
    # Equal grades may have come about in different ways.
    grader: str = field(default="", compare=False)
    """What the grader is called whose grade this is."""
    seconds: float = field(default=0.0, compare=False)
    """How long it took; of responses that were graded together, each one's share."""
    parts: Mapping[str, "Grade"] = field(default_factory=dict, compare=False)
    """What the graders within a ``multi`` gave, by their names."""
    answer: str | None = None
    """What the response answers, in a normal form that equal answers share, where the grader knows one."""
    off_scale: bool = False
    """The error: the grader gave a number that is not on its scale. That is the grader's fault, not this
    response's, so a run does not go on without the response; it ends (``trainer.steps.generation``)."""

    @property
    def own_scale(self) -> float | None:
        return self.reward if self.value is None else self.value


class GraderError(Exception):
    """Why a sample has no reward."""

    def __init__(
        self, message: str, kind: ErrorKind = "other_error", usage: dict[str, dict[str, int]] | None = None
    ):
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.usage = usage or {}

    def grade(self) -> Grade:
        return Grade(None, error=str(self), kind=self.kind, usage=self.usage)


@dataclass
class Sample:
    """A response and the item that it answers."""

    item: dict[str, object]
    text: str
    """The answer; the whole response where there are no thoughts."""
    reasoning: str | None = None
    whole: str | None = None
    """The response as it was written, where that is another text than the answer."""
    calls: list[dict[str, object]] | None = None
    """Calls of tools, where whoever answered has told them apart; else they are looked for in the text."""

    @classmethod
    def of(cls, item: dict[str, object], response: str, opened: bool = False) -> "Sample":
        """A response, taken apart (``trainer.graders.thoughts``); ``opened``: its prompt began thoughts."""
        parts = split_thoughts(response, opened)
        return cls(item, parts.answer, parts.reasoning, response)

    @property
    def full_text(self) -> str:
        return self.text if self.whole is None else self.whole

    @property
    def output_tools(self) -> list[dict[str, object]]:
        """Calls of tools, in OpenAI's form."""
        return tool_calls(self.text) if self.calls is None else self.calls


def nothing() -> None:
    """For who does not care about progress."""


class Grader(ABC):
    """Grades samples. Errors are Grades, never exceptions; close it when it is done with."""

    name: str = ""
    """What its definition calls it, of a grader that stands for itself; its grades carry it."""
    gives_answers: bool = False
    """Whether its grades have the normal form of a response's answer: what votes count."""

    @abstractmethod
    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        """The samples' grades, in their order. ``on_progress`` is called about every second meanwhile."""

    def item_problem(
        self, items: Sequence[dict[str, object]], on_progress: Callable[[], None] = nothing
    ) -> tuple[int, str] | None:
        """The first item that no response could be graded for, by its index, and why; None: none is known."""
        return None

    def __call__(self, item: dict[str, object], text: str) -> Grade:
        """One sample's grade."""
        return self.grade_many([Sample.of(item, text)])[0]

    @abstractmethod
    def close(self) -> None:
        """End what was started: threads, connections, sandboxes."""


class GradedElsewhere(Grader):
    """Stands in on ranks that are told the grades: nothing is started there, and nothing asked."""

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        raise AssertionError("the first rank grades")

    def close(self) -> None:
        pass


class LocalGrader(Grader):
    """Calls a quick function, sample after sample. GraderErrors that it raises become Grades."""

    def __init__(self, grade: Callable[[Sample], Grade], gives_answers: bool = False):
        self._grade, self.gives_answers = grade, gives_answers

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        grades, beat = [], time.monotonic() + BEAT_SECONDS
        for sample in samples:
            started = time.perf_counter()
            grade = caught(self._grade, sample)
            grades.append(replace(grade, seconds=time.perf_counter() - started))
            if time.monotonic() >= beat:
                on_progress()
                beat = time.monotonic() + BEAT_SECONDS
        return grades

    def close(self) -> None:
        """Nothing was started."""


class ConcurrentGrader(Grader):
    """Grades in threads of its own, ``concurrency`` samples at a time; the threads stay until it is closed.

    A subclass's ``grade_one`` ends within a limit of its own, whatever the sample. One that does several
    together more quickly says how many, and how.
    """

    together = 1

    def __init__(self, name: str, concurrency: int):
        self.closed = threading.Event()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=name)

    @abstractmethod
    def grade_one(self, sample: Sample) -> Grade:
        """One sample's grade, in one of the threads; may raise GraderError."""

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        batches = [samples[start : start + self.together] for start in range(0, len(samples), self.together)]
        futures = [self._threads.submit(self._timed, batch) for batch in batches]
        return [grade for future in futures for grade in _wait(future, on_progress)]

    def _timed(self, samples: Sequence[Sample]) -> list[Grade]:
        started = time.perf_counter()
        grades = self.grade_together(samples)
        seconds = (time.perf_counter() - started) / len(samples)
        return [replace(grade, seconds=seconds) for grade in grades]

    def grade_together(self, samples: Sequence[Sample]) -> list[Grade]:
        """The samples' grades, in one of the threads; at most ``together`` of them."""
        return [caught(self.grade_one, sample) for sample in samples]

    def close(self) -> None:
        self.closed.set()
        self._threads.shutdown(cancel_futures=True)


class OnScale(Grader):
    """Brings what a grader gives from ``scale`` to a reward from 0 to 1, in the one place for all graders;
    puts the grader's name on it.

    A number beyond an end by rounding alone is that end: 0.4 + 0.2 + 0.3 + 0.1 is 1, whatever floats say. A
    number further out is an error that says so. A grader inside a ``multi`` has no such wrapper: its formula
    may take any number.
    """

    def __init__(self, grader: Grader, name: str, scale: tuple[float, float] = (0.0, 1.0), remedy: str = ""):
        self._grader, self.name, self._scale, self._remedy = grader, name, scale, remedy
        self.gives_answers = grader.gives_answers

    def item_problem(
        self, items: Sequence[dict[str, object]], on_progress: Callable[[], None] = nothing
    ) -> tuple[int, str] | None:
        return self._grader.item_problem(items, on_progress)

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        grades = self._grader.grade_many(samples, on_progress)
        return [replace(self._on_scale(grade), grader=self.name) for grade in grades]

    def _on_scale(self, grade: Grade) -> Grade:
        if grade.reward is None:
            return grade
        low, high = self._scale
        reward = (grade.reward - low) / (high - low)
        if reward == grade.reward and (reward in (0, 1) or ROUNDING < reward < 1 - ROUNDING):
            return grade
        for end in (0.0, 1.0):
            if abs(reward - end) <= ROUNDING:
                return replace(grade, reward=end)
        if 0 < reward < 1:
            return replace(grade, reward=reward)
        expected = (
            "a reward must be from 0 to 1" if self._scale == (0, 1) else f"its range is {low:g} to {high:g}"
        )
        error = f"the grader gave {grade.reward:.9g}; {expected}{self._remedy}"
        return replace(grade, reward=None, error=error, off_scale=math.isfinite(grade.reward))

    def close(self) -> None:
        self._grader.close()


def finite(value: float, what: str, kind: ErrorKind = "other_error") -> float:
    """``value``; raises GraderError unless it is a finite number."""
    if not math.isfinite(value):
        raise GraderError(f"{what} is {value}, which is not a number", kind)
    return value


def caught(grade: Callable[[Sample], Found], sample: Sample) -> Found | Grade:
    """What ``grade`` returns, or what it raises as a Grade."""
    try:
        return grade(sample)
    except GraderError as error:
        return error.grade()
    except RecursionError:
        return Grade(None, error="the sample is nested too deeply")
    except Exception as error:  # such as an item of a library's own types where JSON is wanted
        return Grade(None, error=f"grading failed: {type(error).__name__}: {str(error)[:500]}")


def _wait(future: Future[list[Grade]], on_progress: Callable[[], None]) -> list[Grade]:
    while True:
        try:
            return future.result(timeout=BEAT_SECONDS)
        except StillRunning:
            on_progress()
