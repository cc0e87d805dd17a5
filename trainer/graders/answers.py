"""What a response's answer is, as far as its grader says: the text that majority voting compares."""

from collections.abc import Callable

from trainer.graders.extraction import extract_answer
from trainer.graders.spec import EnvironmentGrader, Grader


def answer_function(spec: Grader | None) -> Callable[[str], str | None]:
    """A function of a response's text; None where the response gives no answer.

    The ``environment`` grader's own extraction where that is the grader, else the whole text; white space is
    evened out.
    """
    extract = spec.extract if isinstance(spec, EnvironmentGrader) else "text"

    def answer(text: str) -> str | None:
        found = extract_answer(text, extract)
        return " ".join(found.split()) if found else None

    return answer
