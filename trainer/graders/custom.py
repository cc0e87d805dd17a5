"""Rewards from a Python function, for those who use the trainer as a library."""

from collections.abc import Callable
from dataclasses import replace

from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grade, Grader, LocalGrader, OnScale, Sample
from trainer.graders.spec import Grader as GraderSpec

RewardFunction = Callable[[dict[str, object], str], "float | Grade"]
"""Of the item (its row) and the answer's text, without thoughts: a number in [0, 1], or a
Grade that carries scores beside it or the reason why there is no reward."""


def function_grader(reward: RewardFunction) -> Grader:
    """``reward`` as a grader: an exception, or a value that is not a reward, is an error and never a zero.

    Where it is an object that has ``answer(item, text)``, too, that says what a response answers.
    """
    answer: Callable[[dict[str, object], str], str | None] | None = getattr(reward, "answer", None)

    def grade(sample: Sample) -> Grade:
        try:
            result = reward(sample.item, sample.text)
            found = result if isinstance(result, Grade) else Grade(float(result))
            if answer is not None:
                found = replace(found, answer=answer(sample.item, sample.text))
        except Exception as error:
            return Grade(None, error=f"the reward function failed: {type(error).__name__}: {error}")
        if found.reward is None and not found.error:
            return Grade(None, error="the reward function returned no reward")
        return found

    return OnScale(
        LocalGrader(grade, answer is not None),
        "reward",
        remedy=": divide the function's result by the best possible score",
    )


def choose_grader(spec: GraderSpec | None, reward: RewardFunction | None) -> Grader:
    """The grader that the spec defines, or the function. Raises InvalidSpec unless exactly one is given."""
    if reward is None and spec is None:
        raise InvalidSpec(
            "grader is null, so responses cannot be rewarded: define a grader, or call trainer.api.train "
            "with a reward function",
            "grader",
        )
    if reward is not None and spec is not None:
        raise InvalidSpec(
            f"grader is of type {spec.type!r}, but a reward function is also given: give one of them",
            "grader",
        )
    return function_grader(reward) if reward is not None else build_grader(spec)  # type: ignore[arg-type]
