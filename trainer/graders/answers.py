"""Which graders say what a response answers, in a form that equal answers share (torch-free).

Votes count such answers, and exploration at the level of answers asks which of them are rare.
"""

from trainer.graders.spec import (
    EnvironmentGrader,
    Grader,
    MathVerifyGrader,
    MultiGrader,
    PythonGrader,
    StringCheckGrader,
)
from trainer.graders.templates import variables

OUTPUT = frozenset({"sample.output_text", "sample.full_text"})
#: What to do about a grader that does not.
REMEDY = (
    "use a grader that does: environment, math_verify, string_check with the operation eq, python with "
    "answer(sample, item), or a multi with one of these"
)
#: Why there are no votes, and what to do for them.
WITHOUT_VOTES = (
    f"the grader does not extract answers. For votes, {REMEDY}, or give evaluation.embedding_model"
)


def gives_answers(spec: Grader) -> bool:
    """Whether the grader's grades have the response's answer."""
    match spec:
        case EnvironmentGrader() | MathVerifyGrader():
            return True
        case StringCheckGrader():
            # A text that only has to contain the reference is not an answer: what else it says, differs.
            return spec.operation == "eq" or OUTPUT.isdisjoint(variables(spec.input))
        case PythonGrader():
            return spec.gives_answers
        case MultiGrader():
            return any(map(gives_answers, spec.named.values()))
        case _:
            return False
