"""``string_check``: 1 if two texts compare, else 0."""

from collections.abc import Callable

from trainer.graders.answers import gives_answers
from trainer.graders.grade import Grade, LocalGrader, Sample
from trainer.graders.spec import StringCheckGrader
from trainer.graders.templates import compile_template

COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def string_check(spec: StringCheckGrader) -> LocalGrader:
    """The grader that ``spec`` defines."""
    matches, name = COMPARE[spec.operation], spec.name
    text, reference = compile_template(spec.input), compile_template(spec.reference)
    answers = gives_answers(spec)

    def grade(sample: Sample) -> Grade:
        found = text(sample)
        reward = 1.0 if matches(found, reference(sample)) else 0.0
        return Grade(reward, {name: reward}, answer=" ".join(found.split()) or None if answers else None)

    return LocalGrader(grade, answers)
