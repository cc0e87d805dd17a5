"""``math_verify``: is the response's answer the same as the reference, as mathematics?

What an answer is, how it is read and when two are equal is ``trainer.sandbox.inside.mathematics``'s.
The name is that of the package that people know for this; ``docs/mathematics.md`` compares the two.
"""

import json
from collections.abc import Callable, Sequence

from trainer.graders.grade import Grade, GraderError, Sample, finite, nothing
from trainer.graders.sandboxed import Answer, Sandboxed, answer_form, scored
from trainer.graders.spec import MathVerifyGrader
from trainer.graders.templates import compile_template, variables
from trainer.sandbox.sandbox import Service

MAX_CHARACTERS = 100_000
#: References that are checked with one question, within one question's time.
CHECKED_AT_ONCE = 50


class MathVerify(Sandboxed):
    """The grader that ``spec`` defines. Raises InvalidSpec as ``Sandboxed`` does."""

    def __init__(self, spec: MathVerifyGrader, sandboxes: int | None = None):
        self._name, self._text, self._reference = (
            spec.name,
            compile_template(spec.input),
            compile_template(spec.reference),
        )
        self._reads_response = any(name.startswith("sample.") for name in variables(spec.reference))
        service = Service("mathematics", spec.timeout_seconds)
        super().__init__(
            service, self._words, self._graded, sandboxes, what="math_verify", gives_answers=True
        )

    def _words(self, sample: Sample) -> str:
        # An answer stands at the end of a response.
        text = self._text(sample)[-MAX_CHARACTERS:]
        return json.dumps({"text": text, "reference": self._reference(sample)})

    def _graded(self, answer: Answer) -> Grade:
        score = finite(scored(answer), "the score")
        return Grade(score, {self._name: score}, answer=answer_form(answer))

    def item_problem(
        self, items: Sequence[dict[str, object]], on_progress: Callable[[], None] = nothing
    ) -> tuple[int, str] | None:
        """The first reference that is not read as a whole, or the first that is not there."""
        if self._reads_response:
            return None
        first_with: dict[str, int] = {}
        for index, item in enumerate(items):
            try:
                first_with.setdefault(self._reference(Sample(item, "")), index)
            except GraderError as error:
                return index, str(error)
        references = list(first_with)
        for start in range(0, len(references), CHECKED_AT_ONCE):
            some = references[start : start + CHECKED_AT_ONCE]
            (answer,) = self.ask_many([json.dumps({"references": some})])
            problems: list[str | None] = answer.get("problems") or []
            on_progress()
            # Where one takes too long, each is asked by itself when it is graded.
            for reference, problem in zip(some, problems, strict=False):
                if problem is not None:
                    return first_with[reference], problem
        return None
