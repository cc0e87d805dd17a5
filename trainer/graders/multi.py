"""``multi``: a formula over the scores of other graders."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from trainer.graders.formula import parse_formula
from trainer.graders.grade import Grade, Grader, GraderError, Sample, caught, finite, nothing


class Multi(Grader):
    """Each grader grades all samples in turn; an error of one is an error of the whole."""

    def __init__(self, name: str, graders: Mapping[str, Grader], formula: str):
        self._name, self._graders = name, graders
        self._formula = parse_formula(formula, graders)
        self._answering = [name for name, one in graders.items() if one.gives_answers]
        self.gives_answers = bool(self._answering)

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        by_name = {name: one.grade_many(samples, on_progress) for name, one in self._graders.items()}
        result = []
        for number, sample in enumerate(samples):
            parts = {name: grades[number] for name, grades in by_name.items()}
            grade = caught(lambda _sample, parts=parts: self._combine(parts), sample)
            seconds = sum(part.seconds for part in parts.values())
            result.append(replace(grade, parts=parts, seconds=seconds))
        return result

    def item_problem(
        self, items: Sequence[dict[str, object]], on_progress: Callable[[], None] = nothing
    ) -> tuple[int, str] | None:
        problems = (one.item_problem(items, on_progress) for one in self._graders.values())
        return min((problem for problem in problems if problem is not None), default=None)

    def _answer(self, parts: dict[str, Grade]) -> str | None:
        """The answers of all parts that know one: equal where each of them is."""
        answers = [parts[name].answer for name in self._answering]
        found = [answer for answer in answers if answer is not None]
        return " | ".join(answer or "" for answer in answers) if len(found) > 1 else "".join(found) or None

    def _combine(self, parts: dict[str, Grade]) -> Grade:
        usage = _total(part.usage for part in parts.values())
        for name, part in parts.items():
            if part.reward is None:
                raise GraderError(f"{name}: {part.error}", part.kind, usage)
        scores = {name: part.own_scale or 0.0 for name, part in parts.items()}
        try:
            value = self._formula(scores)
        except (ValueError, ArithmeticError) as error:
            raise GraderError(
                f"the formula cannot be evaluated: {error}", "formula_parse_error", usage
            ) from None
        value = finite(value, "the formula's value", "formula_parse_error")
        return Grade(value, scores | {self._name: value}, usage=usage, answer=self._answer(parts))

    def close(self) -> None:
        for grader in self._graders.values():
            grader.close()


def _total(usages: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for usage in usages:
        for model, counts in usage.items():
            of_model = total.setdefault(model, {})
            for what, count in counts.items():
                of_model[what] = of_model.get(what, 0) + count
    return total
