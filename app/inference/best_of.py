"""The best of several answers, by a grader."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from app.graders.service import grade_samples
from app.inference.answers import Gathered
from app.inference.errors import GradingFailed
from app.inference.sampling import BestOf
from trainer.graders.grade import Grade


async def best_of(wanted: BestOf, choices: list[Gathered]) -> tuple[list[Gathered], list[dict[str, Any]]]:
    """The ``keep`` best of the choices and what to say of each: its reward, or why it has none.

    Equals stay in their order; an answer without a reward comes after all that have one. Raises an ApiError
    when no answer has one.
    """
    texts = [choice.text for choice in choices]
    grades = await run_in_threadpool(grade_samples, wanted.grader, wanted.item, texts, "best_of_n.grader")
    if all(grade.reward is None for grade in grades):
        raise GradingFailed(f"The grader gave none of the {len(grades)} answers a reward: {grades[0].error}")
    order = sorted(range(len(choices)), key=lambda index: _rank(grades[index]), reverse=True)[: wanted.keep]
    return [choices[index] for index in order], [_said(grades[index]) for index in order]


def _rank(grade: Grade) -> float:
    return float("-inf") if grade.reward is None else grade.reward


def _said(grade: Grade) -> dict[str, Any]:
    if grade.reward is None:
        return {"reward": None, "grader_error": grade.error}
    return {"reward": grade.reward}
