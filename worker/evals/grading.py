"""An eval's criteria on answers: passed or not, by criterion and by item."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core.strict_json import JsonObject
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import ROUNDING, Grade, Grader
from trainer.graders.spec import Grader as GraderSpec
from worker.evals.answers import Answer
from worker.evals.errors import RunFailed

Told = JsonObject


@dataclass(frozen=True)
class Verdict:
    """What became of an item."""

    status: str
    """pass, fail or error."""
    results: list[Told]
    """By criterion, as the API shows them; none where there is no answer."""
    rewards: list[float | None]
    """By criterion, from 0 to 1; None: not known."""
    usage: dict[str, Told]
    """Of judges, counts by model."""


class Criteria:
    """The graders, started; close it when it is done with. Raises RunFailed where one cannot work here."""

    def __init__(self, specs: Sequence[GraderSpec]):
        self._specs = specs
        self._graders: list[Grader] = []
        try:
            for spec in specs:
                self._graders.append(build_grader(spec))
        except InvalidSpec as error:
            self.close()
            raise RunFailed("invalid_grader", f"{error}.") from None

    def verdicts(self, answers: Sequence[Answer], on_progress: Callable[[], None]) -> list[Verdict]:
        """Of each answer; ``on_progress`` is called about every second, and ends it by raising."""
        samples = [one.graded for one in answers if one.graded is not None]
        by_criterion = [grader.grade_many(samples, on_progress) for grader in self._graders]
        of_samples = iter(zip(*by_criterion, strict=True))
        return [self._verdict(None if one.graded is None else next(of_samples)) for one in answers]

    def _verdict(self, grades: Sequence[Grade] | None) -> Verdict:
        if grades is None:
            return Verdict("error", [], [None] * len(self._specs), {})
        results = [_result(spec, grade) for spec, grade in zip(self._specs, grades, strict=True)]
        if any(one["error"] is not None for one in results):
            status = "error"
        else:
            status = "pass" if all(one["passed"] for one in results) else "fail"
        usage: dict[str, Told] = {}
        for grade in grades:
            for model, counts in grade.usage.items():
                add_counts(usage, model, {"invocation_count": 1} | counts)
        return Verdict(status, results, [one["reward"] for one in results], usage)

    def close(self) -> None:
        for grader in self._graders:
            grader.close()


def _result(spec: GraderSpec, grade: Grade) -> Told:
    told: Told = {"name": spec.name, "type": spec.type}
    if grade.reward is None:
        error = (grade.error or "no reward").encode("utf-8", "replace").decode()
        return told | {"passed": False, "score": 0.0, "reward": None, "error": error}
    score = grade.scores.get(spec.name, grade.reward)
    if spec.pass_threshold is None:
        passed = grade.reward >= 1 - ROUNDING
    else:
        passed = score >= spec.pass_threshold - ROUNDING
    return told | {"passed": passed, "score": score, "reward": grade.reward, "error": None}


def add_counts(usage: dict[str, Told], model: str, counts: Told) -> None:
    """Add what a model was asked to what it was before."""
    names = ("invocation_count", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    before = usage.get(model, {})
    usage[model] = {name: before.get(name, 0) + counts.get(name, 0) for name in names}
