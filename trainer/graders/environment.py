"""``environment``: the own scorer of a reasoning-gym task."""

from collections.abc import Callable
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.extraction import extract_answer
from trainer.graders.grade import Grade, Sample
from trainer.graders.scorer_process import ScoredByProcess
from trainer.graders.spec import EnvironmentGrader


def environment(spec: EnvironmentGrader) -> ScoredByProcess:
    """The grader that ``spec`` defines. Raises InvalidSpec when there is no such task."""

    def question(sample: Sample) -> dict[str, Any]:
        return {"answer": extract_answer(sample.text, spec.extract), "entry": sample.item}

    def grade(score: float) -> Grade:
        return Grade(min(max(score, 0.0), 1.0), {spec.name: score}, value=score)

    settings = {"type": "environment", "task": spec.task, "parameters": spec.parameters}
    return ScoredByProcess(settings, spec.timeout_seconds, question, grade, children=1)


def scorer(task: str, parameters: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Scores answers in the child. Raises InvalidSpec when there is no such task."""
    import reasoning_gym

    try:
        dataset = reasoning_gym.create_dataset(task, **{"size": 1, "seed": 0, **parameters})
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidSpec(f"reasoning-gym task {task!r}: {error}", "grader") from error

    def score(question: dict[str, Any]) -> dict[str, Any]:
        entry = {"question": "", "metadata": {}, **question["entry"]}
        return {"score": float(dataset.score_answer(question["answer"], entry))}

    return score
