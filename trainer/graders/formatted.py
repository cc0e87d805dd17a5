"""``response_format`` of a run: a response that is not of the form gets the reward 0, and no grader sees it.

Unlike an error of a grader this says something about the response: the form is part of the task, and a
model learns it only where missing it costs. ``format`` in a schema is an annotation, JSON Schema's default.
Samplers are held to the form only where the run says so (``RolloutSpec.force_response_format``): otherwise
what the model would say by itself is what is trained.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from trainer.graders.grade import Grade, Grader, GraderError, LocalGrader, Sample, nothing
from trainer.graders.response_format import JsonSchema, ResponseFormat
from trainer.graders.sandboxed import Answer, Sandboxed
from trainer.graders.templates import parse_output
from trainer.sandbox.sandbox import Service

#: For one response. A pattern can take for ever.
SECONDS = 10.0


class Formatted(Grader):
    """``grader``, for the responses that are of the form. Raises InvalidSpec where that cannot be checked."""

    def __init__(self, grader: Grader, form: ResponseFormat, sandboxes: int | None = None):
        self._grader, self.gives_answers, self.name = grader, grader.gives_answers, grader.name
        self._form = form_checker(form, sandboxes)

    def item_problem(
        self, items: Sequence[dict[str, object]], on_progress: Callable[[], None] = nothing
    ) -> tuple[int, str] | None:
        return self._grader.item_problem(items, on_progress)

    def grade_many(self, samples: Sequence[Sample], on_progress: Callable[[], None] = nothing) -> list[Grade]:
        checked = self._form.grade_many(samples, on_progress)
        fitting = [sample for sample, one in zip(samples, checked, strict=True) if one.reward == 1.0]
        grades = iter(self._grader.grade_many(fitting, on_progress) if fitting else ())
        return [next(grades) if one.reward == 1.0 else replace(one, grader=self.name) for one in checked]

    def close(self) -> None:
        self._grader.close()
        self._form.close()


def with_format(grader: Grader, form: ResponseFormat | None) -> Grader:
    """The grader, behind the form where there is one; ended where that cannot be checked."""
    if form is None or not form.restricts:
        return grader
    try:
        return Formatted(grader, form)
    except BaseException:
        grader.close()
        raise


def form_checker(form: ResponseFormat, sandboxes: int | None = None) -> Grader:
    """Gives 1 to responses of the form; to others 0 and, as ``parse_error``, why. Raises InvalidSpec."""
    if form.json_schema is None:
        return LocalGrader(_is_an_object)
    return _schema_checker(form.json_schema, sandboxes)


def _schema_checker(schema: JsonSchema, sandboxes: int | None) -> Grader:
    service = Service("json_schema", SECONDS, {"schema": schema.schema_}, tripwire=False)

    def grade(answer: Answer) -> Grade:
        if "problem" not in answer:
            why = answer.get("late") or answer.get("failed") or answer.get("error") or answer.get("down")
            raise GraderError(f"the check of response_format {why}", "sample_parse_error")
        return _fits() if answer["problem"] is None else _does_not(str(answer["problem"]))

    return Sandboxed(
        service,
        lambda sample: json.dumps({"text": sample.text}),
        grade,
        sandboxes,
        what="the schema of response_format",
        param="response_format.json_schema.schema",
    )


def _is_an_object(sample: Sample) -> Grade:
    try:
        value = parse_output(sample.text)
    except GraderError:
        return _does_not("it is not JSON")
    return _fits() if isinstance(value, dict) else _does_not("it is JSON, but not an object")


def _fits() -> Grade:
    return Grade(1.0)


def _does_not(why: str) -> Grade:
    return Grade(0.0, parse_error=why)
