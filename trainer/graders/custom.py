"""Rewards from a Python function, for those who use the trainer as a library."""

import math
from collections.abc import Callable
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grade, Grader, LocalGrader, Sample
from trainer.graders.spec import Grader as GraderSpec

RewardFunction = Callable[[dict[str, Any], str], "float | Grade"]
"""Of the item (the keys of its row but for ``messages``) and the response's text: a number in [0, 1], or a
Grade that carries scores beside it or the reason why there is no reward."""


def function_grader(reward: RewardFunction) -> Grader:
    """``reward`` as a grader: an exception, or a value that is no reward, is an error and never a zero."""

    def grade(sample: Sample) -> Grade:
        try:
            result = reward(sample.item, sample.text)
            found = result if isinstance(result, Grade) else Grade(float(result))
        except Exception as error:
            return Grade(None, error=f"the reward function failed: {type(error).__name__}: {error}")
        value = found.reward
        if value is None:
            return found if found.error else Grade(None, error="the reward function gave no reward")
        if not math.isfinite(value) or not 0 <= value <= 1:
            return Grade(None, found.scores, f"the reward function gave {value}; a reward is from 0 to 1")
        return found

    return LocalGrader(grade)


def choose_grader(spec: GraderSpec | None, reward: RewardFunction | None) -> Grader:
    """The grader that the spec defines, or the function. Raises InvalidSpec unless exactly one is given."""
    if reward is None and spec is None:
        raise InvalidSpec(
            "grader is null, so nothing says what a response is worth: define a grader, or call "
            "trainer.api.train with a reward function",
            "grader",
        )
    if reward is not None and spec is not None:
        raise InvalidSpec(
            f"grader is of type {spec.type!r} and a reward function is given, too: give one of them", "grader"
        )
    return function_grader(reward) if reward is not None else build_grader(spec)  # type: ignore[arg-type]
