"""Can this grader work here at all? Asked before it is run, and before a job is taken in."""

from collections.abc import Callable

from app.core.errors import BadRequest
from app.graders.environments import check_task
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.python import check_python
from trainer.graders.sandboxed import check_isolation
from trainer.graders.spec import (
    EnvironmentGrader,
    Grader,
    MathVerifyGrader,
    MultiGrader,
    PythonGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)


def check_grader(grader: Grader, param: str) -> None:
    """Raise BadRequest, naming a field below ``param``, when the grader cannot work with any data."""
    match grader:
        case MultiGrader():
            for name, one in grader.named.items():
                place = f"graders.{name}" if isinstance(grader.graders, dict) else "graders"
                check_grader(one, f"{param}.{place}")
        case EnvironmentGrader():
            check_task(grader.task, grader.parameters, param=param)
        case PythonGrader():
            _check(lambda: check_python(grader), param)
        case MathVerifyGrader():
            _check(lambda: check_isolation("math_verify"), param)
        case StringCheckGrader():
            pass
        case TextSimilarityGrader() if grader.evaluation_metric != "cosine":
            pass
        case _:
            # Those that ask others: their endpoint, URL and secret are looked at, and nothing is sent.
            _check(lambda: build_grader(grader).close(), param)


def as_bad_request(error: InvalidSpec, param: str) -> BadRequest:
    """The trainer's refusal of a grader, naming the field below ``param``."""
    _, _, below = (error.param or "").partition("grader")
    return BadRequest(f"Invalid '{param}{below}': {error}.", param=f"{param}{below}")


def _check(attempt: Callable[[], object], param: str) -> None:
    try:
        attempt()
    except InvalidSpec as error:
        raise as_bad_request(error, param) from None
