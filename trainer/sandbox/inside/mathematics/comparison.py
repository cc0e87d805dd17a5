"""What is asked about mathematics: is an answer the reference, and what is an answer's normal form?"""

from functools import lru_cache
from typing import Any, TypedDict

import sympy

from .equality import equal
from .extraction import UNREADABLE, answer_of, reference_of
from .notation import Unreadable
from .shapes import Answer, Assigned, Based, Grid, Labelled, Region, Relation, Several, Value, Word

_FORM_POINT = tuple(sympy.Rational(prime, 101) for prime in (37, 41, 43, 47, 53, 59, 61, 67))


class Question(TypedDict):
    """A response, and what its answer is compared with."""

    text: str
    reference: str


def compare(question: Question) -> dict[str, object]:
    """``{"score", "answer"}`` of ``{"text", "reference"}``, or ``{"error"}`` where the reference is at fault.

    A response without an answer that can be read is wrong. ``answer`` is its normal form, None without one.
    """
    try:
        reference = _reference(question["reference"])
    except Unreadable as error:
        return {"error": unreadable_reference(question["reference"], error)}
    answer = answer_of(question["text"])
    if answer is None:
        return {"score": 0.0, "answer": None}
    return {"score": float(equal(reference, answer)), "answer": normal_form(answer)}


def reference_problems(references: list[str]) -> dict[str, object]:
    """``{"problems"}``: of each reference why it cannot be compared with, None where it can."""
    problems: list[str | None] = []
    for reference in references:
        try:
            _reference(reference)
            problems.append(None)
        except Unreadable as error:
            problems.append(unreadable_reference(reference, error))
    return {"problems": problems}


def unreadable_reference(reference: str, error: Unreadable) -> str:
    """The sentence about it."""
    return (
        f"the reference {reference[:80]!r} is not a mathematical expression that is read as a whole: {error}"
    )


@lru_cache(maxsize=256)
def _reference(text: str) -> Answer:
    try:
        return reference_of(text)
    except Unreadable:
        raise
    except UNREADABLE as error:
        raise Unreadable(f"it has no value ({type(error).__name__})") from None


def normal_form(answer: Answer) -> str:
    """A text that equal answers share: what votes count. Without units, which an answer may leave out."""
    match answer:
        case Value():
            return _form(answer.expression)
        case Word():
            return answer.text
        case Labelled():
            return answer.letter.casefold()
        case Based():
            return f"{answer.digits}_{answer.base}"
        case Assigned():
            return normal_form(answer.answer)
        case Region():
            return str(answer.set)
        case Relation():
            return f"{_form(answer.difference)} {answer.operator} 0"
        case Several(parts=parts, brackets="" | "{}"):
            return ", ".join(sorted({normal_form(part) for part in parts}))
        case Several(parts=parts, brackets=brackets):
            return f"{brackets[0]}{', '.join(map(normal_form, parts))}{brackets[-1]}"
        case Grid():
            return "; ".join(", ".join(map(normal_form, row)) for row in answer.rows)


def _form(expression: Any) -> str:
    if expression.is_Symbol or (expression.is_Rational and max(abs(expression.p), expression.q) < 10**40):
        return str(expression).casefold()
    names = sorted(expression.free_symbols, key=str)
    try:
        if not names:
            return str(expression.evalf(30 if expression.is_Rational else 12))
        if expression.is_polynomial(*names):
            return str(sympy.expand(expression))
        if len(names) <= len(_FORM_POINT):
            value = expression.subs(dict(zip(names, _FORM_POINT, strict=False))).evalf(12)
            return f"{', '.join(map(str, names))}: {value}"
    except (TypeError, ValueError, ArithmeticError):
        pass
    return str(expression)
