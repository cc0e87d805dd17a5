"""``math_verify``: is the response's answer the same as the reference, as mathematics?

The package math-verify finds the answer (the last boxed one, else the last expression), parses both and
compares them. Its own time limit needs the main thread of a process; ours is that of the child it runs in.
"""

import logging
from typing import Any

from trainer.graders.grade import Grade, Sample
from trainer.graders.process import cores
from trainer.graders.scorer_process import ScoredByProcess
from trainer.graders.spec import MathVerifyGrader
from trainer.graders.templates import compile_template

MAX_CHARACTERS = 100_000
MAX_CHILDREN = 8
_DELIMITERS = ("$", "\\boxed", "\\(", "\\[")


def math_verify(spec: MathVerifyGrader, workers: int | None = None) -> ScoredByProcess:
    """The grader that ``spec`` defines."""
    text, reference = compile_template(spec.input), compile_template(spec.reference)

    def question(sample: Sample) -> dict[str, Any]:
        # An answer stands at the end of a response.
        return {"text": text(sample)[-MAX_CHARACTERS:], "reference": reference(sample)}

    def grade(score: float) -> Grade:
        return Grade(score, {spec.name: score})

    children = workers or min(cores(), MAX_CHILDREN)
    return ScoredByProcess({"type": "math_verify"}, spec.timeout_seconds, question, grade, children)


def equal(question: dict[str, Any]) -> dict[str, Any]:
    """Compare, in the child. A response without an answer is wrong; a reference without one is an error."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)  # it says at each call that its own time limit is off
    configuration = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    reference = question["reference"]
    written = reference if any(mark in reference for mark in _DELIMITERS) else f"${reference}$"
    gold = parse(written, configuration, parsing_timeout=None)  # type: ignore[arg-type]
    if not gold:
        return {"error": f"the reference {reference[:80]!r} is no mathematical expression"}
    # From the last box on: of several, the library would make a set.
    text = question["text"][max(question["text"].rfind("\\boxed"), 0) :]
    answer = parse(text, configuration, parsing_timeout=None)  # type: ignore[arg-type]
    return {"score": float(bool(answer) and verify(gold, answer, timeout_seconds=None))}
