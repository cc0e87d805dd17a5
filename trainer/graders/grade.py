"""What graders take and give, and the one interface behind which all of them stand."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

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
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
BEAT_SECONDS = 1.0


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
    """A response's text and the item that it answers."""

    item: dict[str, Any]
    text: str


def nothing() -> None:
    """For who does not care about progress."""


class Grader(ABC):
    """Grades samples. Errors are Grades, never exceptions; close it when it is done with."""

    @abstractmethod
    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        """The samples' grades, in their order. ``on_progress`` is called about every second meanwhile."""

    def __call__(self, item: dict[str, Any], text: str) -> Grade:
        """One sample's grade."""
        return self.grade_many([Sample(item, text)])[0]

    @abstractmethod
    def close(self) -> None:
        """End what was started: threads, connections, sandboxes."""


class LocalGrader(Grader):
    """Calls a quick function, sample after sample. GraderErrors that it raises become Grades."""

    def __init__(self, grade: Callable[[Sample], Grade]):
        self._grade = grade

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        grades, beat = [], time.monotonic() + BEAT_SECONDS
        for sample in samples:
            grades.append(caught(self._grade, sample))
            if time.monotonic() >= beat:
                on_progress()
                beat = time.monotonic() + BEAT_SECONDS
        return grades

    def close(self) -> None:
        """Nothing was started."""


class ConcurrentGrader(Grader):
    """Grades in threads of its own, ``concurrency`` samples at a time; the threads stay until it is closed.

    A subclass's ``grade_one`` ends within a limit of its own, whatever the sample.
    """

    def __init__(self, name: str, concurrency: int):
        self.closed = threading.Event()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=name)

    @abstractmethod
    def grade_one(self, sample: Sample) -> Grade:
        """One sample's grade, in one of the threads; may raise GraderError."""

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        futures = [self._threads.submit(caught, self.grade_one, sample) for sample in samples]
        return [_wait(future, on_progress) for future in futures]

    def close(self) -> None:
        self.closed.set()
        self._threads.shutdown(cancel_futures=True)


class InRange(Grader):
    """Refuses rewards that are none: a grader inside a ``multi`` may give any number, a job's may not."""

    def __init__(self, grader: Grader):
        self._grader = grader

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        return [_in_range(grade) for grade in self._grader.grade_many(samples, on_progress)]

    def close(self) -> None:
        self._grader.close()


def _in_range(grade: Grade) -> Grade:
    if grade.reward is None or 0 <= grade.reward <= 1:
        return grade
    return replace(grade, reward=None, error=f"the grader gave {grade.reward:g}; a reward is from 0 to 1")


def finite(value: float, what: str, kind: ErrorKind = "other_error") -> float:
    """``value``; raises GraderError unless it is a finite number."""
    if not math.isfinite(value):
        raise GraderError(f"{what} is {value}, which is no number", kind)
    return value


def caught(grade: Callable[[Sample], Grade], sample: Sample) -> Grade:
    """What ``grade`` returns or raises, as a Grade."""
    try:
        return grade(sample)
    except GraderError as error:
        return error.grade()
    except RecursionError:
        return Grade(None, error="the sample is nested too deeply")
    except Exception as error:  # such as an item of a library's own types where JSON is wanted
        return Grade(None, error=f"grading failed: {type(error).__name__}: {str(error)[:500]}")


def _wait(future: Future[Grade], on_progress: Callable[[], None]) -> Grade:
    while True:
        try:
            return future.result(timeout=BEAT_SECONDS)
        except StillRunning:
            on_progress()
