"""The best of several answers, by a grader."""

from app.graders.lane import Check, Lane
from app.graders.service import grade_samples
from app.inference.answers import Gathered
from app.inference.errors import GradingFailed
from app.inference.sampling import BestOf
from trainer.graders.grade import Grade


async def best_of(
    lane: Lane, project: str, wanted: BestOf, choices: list[Gathered]
) -> tuple[list[Gathered], list[dict[str, object]]]:
    """The ``keep`` best of the choices and what to say of each: its reward, or why it has none.

    Equals stay in their order; an answer without a reward comes after all that have one. ``distinct``: of
    those with the same answer the first in this order stays for all. Raises an ApiError when no answer has a
    reward.
    """
    texts = [choice.text for choice in choices]

    def work(check: Check) -> list[Grade]:
        return grade_samples(wanted.grader, wanted.item, texts, "best_of_n.grader", check)

    grades = await lane.run(project, work)
    if all(grade.reward is None for grade in grades):
        raise GradingFailed(f"The grader failed on all {len(grades)} answers; first: {grades[0].error}")
    order = sorted(range(len(choices)), key=lambda index: _rank(grades[index]), reverse=True)
    if not wanted.distinct:
        kept = order[: wanted.keep]
        return [choices[index] for index in kept], [_said(grades[index]) for index in kept]
    same: dict[tuple[bool, str], list[int]] = {}
    for index in order:
        same.setdefault(_answer(grades[index], texts[index]), []).append(index)
    alike = list(same.values())[: wanted.keep]
    said = [_said(grades[first]) | {"count": 1 + len(others)} for first, *others in alike]
    return [choices[first] for first, *_ in alike], said


def _answer(grade: Grade, text: str) -> tuple[bool, str]:
    """What is the same for two answers that are; a text without one is only like itself."""
    return (False, text.strip()) if grade.answer is None else (True, grade.answer)


def _rank(grade: Grade) -> float:
    return float("-inf") if grade.reward is None else grade.reward


def _said(grade: Grade) -> dict[str, object]:
    if grade.reward is None:
        return {"reward": None, "grader_error": grade.error}
    return {"reward": grade.reward}
