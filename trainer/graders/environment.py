"""``environment``: the own scorer of a reasoning-gym task."""

import base64
import pickle
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
        # JSON would make lists of tuples and strings of keys; scorers tell them apart.
        entry = base64.b64encode(pickle.dumps(sample.item)).decode()
        return {"answer": extract_answer(sample.text, spec.extract), "entry": entry}

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
        item = pickle.loads(base64.b64decode(question["entry"]))  # our own parent's
        entry = {"question": "", "metadata": {}, **item}
        return {"score": float(dataset.score_answer(question["answer"], entry))}

    return score
