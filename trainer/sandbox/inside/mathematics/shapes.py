"""What an answer may be: a value with its unit, a word, a relation, a set of numbers, several of these."""

from dataclasses import dataclass

import sympy
from sympy import Expr, Interval, Set


@dataclass(frozen=True)
class Value:
    """A number or an expression."""

    expression: Expr
    digits: int = 0
    """Significant digits of a decimal in it; 0: there is none, it is exact."""
    unit: str = ""


@dataclass(frozen=True)
class Word:
    """An answer in words, such as the letter of a choice; compared without regard to case."""

    text: str


@dataclass(frozen=True)
class Labelled:
    """The letter of a choice with what it stands for: (B) Paris."""

    letter: str
    answer: "Answer | None"


@dataclass(frozen=True)
class Based:
    """A number in a written base: 1011_2."""

    digits: str
    base: int


@dataclass(frozen=True)
class Assigned:
    """x = …"""

    name: str
    answer: "Answer"


@dataclass(frozen=True)
class Relation:
    """left = right, left < right or left <= right, of more than one name or not solved for it."""

    operator: str
    difference: Expr
    """left - right."""


@dataclass(frozen=True)
class Region:
    """A set of real numbers; ``name`` is what lies in it, where it was said."""

    set: Set
    name: str = ""


@dataclass(frozen=True)
class Several:
    """Parts in ``brackets``: none (a list, in any order), ``{}``, ``()``, ``[]``, ``(]``, ``[)`` or ``:``."""

    parts: "tuple[Answer, ...]"
    brackets: str = ""
    decimal: Value | None = None
    """A list of two may be a number with a decimal comma: 12,5."""


@dataclass(frozen=True)
class Grid:
    """A matrix, row by row."""

    rows: "tuple[tuple[Answer, ...], ...]"


Answer = Value | Word | Labelled | Based | Assigned | Relation | Region | Several | Grid


def as_region(answer: Answer) -> Region | None:
    """The set of real numbers that an answer is; None where it is not one."""
    match answer:
        case Region():
            return answer
        case Value(expression=expression) if expression.is_extended_real:
            return Region(sympy.FiniteSet(expression))
        case Several(
            parts=(Value(expression=low), Value(expression=high)),
            brackets="()" | "[]" | "(]" | "[)" as brackets,
        ):
            if not (low.is_extended_real and high.is_extended_real) or not sympy.Lt(low, high) == sympy.true:  # noqa: SIM201
                return None
            return Region(Interval(low, high, brackets[0] == "(", brackets[1] == ")"))
        case Several(parts=parts, brackets="{}" | "") if all(isinstance(one, Value) for one in parts):
            values = [one.expression for one in parts if isinstance(one, Value)]
            return Region(sympy.FiniteSet(*values)) if all(one.is_extended_real for one in values) else None
        case _:
            return None
