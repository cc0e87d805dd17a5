"""Whether two answers are the same, as mathematics: exactly, or as far as the digits that are written say.

Numbers are equal when their difference is 0 beside their size, however small both are. A decimal of six
digits or more also equals what it is the rounding of (0.333333 and 1/3); one of fewer equals itself alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sympy
from sympy import Expr, Interval, S, Symbol

from .shapes import (
    Answer,
    Assigned,
    Based,
    Grid,
    Labelled,
    Region,
    Relation,
    Several,
    Value,
    Word,
    as_region,
)
from .units import LETTER_UNITS, conversion
from .vocabulary import DEGREE, LOG_BASE, PERCENT

#: Digits that a decimal must have to stand for a number that it rounds.
ROUNDED_DIGITS = 6
_PRECISION = 50
_SAME = sympy.Float(10, 20) ** -35
#: Where expressions with names are compared: no two names get the same number, and half are negative.
_POINTS = tuple(
    tuple(
        sympy.Rational(sign * (prime + 7 * number * k), 97 + k)
        for k, prime in enumerate((2, 3, 5, 7, 11, 13, 17, 19))
    )
    for number, sign in ((3, 1), (10, 1), (17, 1), (29, 1), (5, -1), (23, -1))
)


def equal(reference: Answer, answer: Answer) -> bool:
    """Whether ``answer`` is ``reference``: in both directions, a name or a unit may be missing in either."""
    match reference, answer:
        case (Labelled(), Labelled()):
            return reference.letter == answer.letter
        case (Labelled(letter=letter, answer=rest), other) | (other, Labelled(letter=letter, answer=rest)):
            return _is_letter(other, letter) or (rest is not None and equal(rest, other))
        case (Assigned(), Assigned()):
            return reference.name == answer.name and equal(reference.answer, answer.answer)
        case (Assigned(answer=inner) as one, Relation() as relation) | (
            Relation() as relation,
            Assigned(answer=inner) as one,
        ):
            return isinstance(inner, Value) and _same_relation(
                Relation("=", Symbol(one.name) - inner.expression), relation
            )
        case (Assigned(answer=inner), other):
            return equal(inner, other)
        case (other, Assigned(answer=inner)):
            return equal(other, inner)
        case (Based(), Based()):
            return (reference.digits, reference.base) == (answer.digits, answer.base)
        case (Based(), other) | (other, Based()):
            return _same_digits(reference if isinstance(reference, Based) else answer, other)  # type: ignore[arg-type]
        case (Grid(), Grid()):
            return _each(reference.rows, answer.rows, lambda a, b: _each(a, b, equal))
        case (Grid(rows=rows), Several(parts=parts, brackets="()" | "[]")) | (
            Several(parts=parts, brackets="()" | "[]"),
            Grid(rows=rows),
        ):
            cells = [cell for row in rows for cell in row]
            return (len(rows) == 1 or len(rows[0]) == 1) and _each(cells, parts, equal)
        case (Relation(), Relation()):
            return _same_relation(reference, answer)
        case (Region(), _) | (_, Region()):
            return _same_region(reference, answer)
        case (Several(), Several()):
            return _same_parts(reference, answer)
        case (Several() as several, other) | (other, Several() as several):
            return _one_of_several(several, other)
        case (Word(), Word()):
            return reference.text == answer.text
        case (Word(text=text), Value(expression=Symbol() as symbol)) | (
            Value(expression=Symbol() as symbol),
            Word(text=text),
        ):
            return len(text) == 1 and str(symbol).casefold() == text
        case (Value(), Value()):
            return _same_value(reference, answer)
    return False


# --- values ------------------------------------------------------------------------------------------------


def _same_value(one: Value, other: Value) -> bool:
    one, other = _unit_taken_off(one, other), _unit_taken_off(other, one)
    a, b = one.expression, other.expression
    if isinstance(a, Symbol) and isinstance(b, Symbol) and not (one.unit or other.unit):
        return a == b or (len(str(a)) == 1 and str(a).casefold() == str(b).casefold())
    factor = conversion(one.unit, other.unit)
    if factor is None:
        return False
    if factor != 1:
        a = a * sympy.Rational(factor.numerator, factor.denominator)
    digits = (
        max(one.digits, other.digits) if min(one.digits or 99, other.digits or 99) >= ROUNDED_DIGITS else 0
    )
    return any(_same_expression(x, y, one.digits, other.digits, digits) for x, y in _meanings(a, b))


def _unit_taken_off(value: Value, beside: Value) -> Value:
    """5 m is five metres where the other is a number, and a product where it has a name itself."""
    number, names = (
        value.expression.as_independent(Symbol) if value.expression.is_Mul else (value.expression, None)
    )
    if names is None or not isinstance(names, Symbol) or str(names) not in LETTER_UNITS or value.unit:
        return value
    if not number.is_number or (beside.expression.free_symbols - {PERCENT, DEGREE} and not beside.unit):
        other = beside.expression.as_independent(Symbol)[1] if beside.expression.is_Mul else None
        if str(other) not in LETTER_UNITS or other == names:
            return value
    return Value(number, value.digits, str(names))


def _meanings(a: Expr, b: Expr) -> list[tuple[Expr, Expr]]:
    """What percent, degrees and logarithms without a base may mean in the two, the same in both."""
    pairs = [(a, b)]
    for sign, meanings in (
        (PERCENT, (1, sympy.Rational(1, 100))),
        (DEGREE, (1, sympy.pi / 180)),
        (LOG_BASE, (10, sympy.E)),
    ):
        if a.has(sign) or b.has(sign):
            pairs = [(x.subs(sign, meaning), y.subs(sign, meaning)) for x, y in pairs for meaning in meanings]
    return pairs


def _same_expression(a: Expr, b: Expr, digits_a: int, digits_b: int, digits: int) -> bool:
    if a == b:
        return True
    names = sorted(a.free_symbols | b.free_symbols, key=str)
    if not names:
        return _same_number(a, b) or _rounds(a, digits_a, b) or _rounds(b, digits_b, a)
    if len(names) > len(_POINTS[0]):
        return bool(sympy.simplify(a - b) == 0)
    imaginary, compared = a.has(sympy.I) or b.has(sympy.I), 0
    for point in _POINTS:
        here: Any = dict(zip(names, point, strict=False))
        x, y = a.subs(here), b.subs(here)
        if not _both_have_a_value(x, y, imaginary):
            continue
        if not (_same_number(x, y) or (digits and _close(x, y, digits))):
            return False
        compared += 1
    return compared >= 2 or bool(compared == 0 and sympy.simplify(a - b) == 0)


def _both_have_a_value(x: Expr, y: Expr, imaginary: bool) -> bool:
    """Whether a point can decide: among real numbers, a root of a negative one has no value there."""
    try:
        values = x.evalf(15), y.evalf(15)
    except (TypeError, ValueError, ArithmeticError):
        return False
    if any(not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo) for value in values):
        return False
    return imaginary or all(abs(sympy.im(value)) < 1e-10 for value in values)


def _same_number(a: Expr, b: Expr) -> bool:
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    if a.is_infinite or b.is_infinite:
        return bool(a == b)
    try:
        x, y = a.evalf(_PRECISION, maxn=400), b.evalf(_PRECISION, maxn=400)
        size = max(abs(x), abs(y))
        if abs(x - y) <= size * _SAME:
            return True
        # Sums that are nearly 0: is it their value, or what rounding left of 0?
        return bool(size < _SAME and (a.has(sympy.Add) or b.has(sympy.Add)) and sympy.simplify(a - b) == 0)
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return False


def _rounds(decimal: Expr, digits: int, exact: Expr) -> bool:
    """Whether ``decimal``, of so many significant digits, is the rounding of ``exact``, or its first ones."""
    return digits >= ROUNDED_DIGITS and _close(decimal, exact, digits)


def _close(decimal: Expr, exact: Expr, digits: int) -> bool:
    try:
        x, y = decimal.evalf(30), exact.evalf(30)
        return bool(abs(x - y) <= abs(x) * sympy.Float(10) ** (1 - digits) and x != 0)
    except (TypeError, ValueError, ArithmeticError):
        return False


# --- several, sets, relations ------------------------------------------------------------------------------


def _each(one: Sequence[Any], other: Sequence[Any], same: Callable[[Any, Any], bool]) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _same_parts(reference: Several, answer: Several) -> bool:
    if reference.decimal and answer.decimal and equal(reference.decimal, answer.decimal):
        return True
    pair = {reference.brackets, answer.brackets}
    if pair <= {"", "{}"}:
        return _same_collection(reference.parts, answer.parts)
    if pair == {":"}:
        first, other = reference.parts[0], answer.parts[0]
        if not (isinstance(first, Value) and isinstance(other, Value)) or 0 in (
            first.expression,
            other.expression,
        ):
            return False
        return _each(
            [Value(one.expression / first.expression) for one in reference.parts if isinstance(one, Value)],
            [Value(one.expression / other.expression) for one in answer.parts if isinstance(one, Value)],
            equal,
        )
    if "" in pair and pair <= {"", "()", "[]", "<>"}:
        named = reference if reference.brackets == "" else answer
        if all(isinstance(part, Assigned) for part in named.parts):
            in_order = sorted(
                (part for part in named.parts if isinstance(part, Assigned)), key=lambda part: part.name
            )
            plain = answer if named is reference else reference
            return _each([part.answer for part in in_order], plain.parts, equal)
        return _each(reference.parts, answer.parts, equal)
    return reference.brackets == answer.brackets and _each(reference.parts, answer.parts, equal)


def _same_collection(one: tuple[Answer, ...], other: tuple[Answer, ...]) -> bool:
    """The same parts in any order, each as often as one likes."""
    return all(any(equal(a, b) for b in other) for a in one) and all(
        any(equal(a, b) for a in one) for b in other
    )


def _one_of_several(several: Several, other: Answer) -> bool:
    """One answer beside a list: the number that the list is with a decimal comma, or its one part."""
    if several.decimal is not None and isinstance(other, Value) and equal(several.decimal, other):
        return True
    return several.brackets in ("", "{}") and all(equal(part, other) for part in several.parts)


def _same_region(reference: Answer, answer: Answer) -> bool:
    one, other = as_region(reference), as_region(answer)
    if one is None or other is None:
        return False
    if one.name and other.name and one.name.casefold() != other.name.casefold():
        return False
    if one.set == other.set:
        return True
    a, b = _pieces(one.set), _pieces(other.set)
    if a is not None and b is not None:
        return len(a) == len(b) and all(map(_same_interval, a, b))
    try:
        return bool(one.set.symmetric_difference(other.set) == S.EmptySet)
    except (TypeError, ValueError, NotImplementedError):
        return False


def _pieces(region: sympy.Set) -> list[sympy.Set] | None:
    """The intervals and points of a set from left to right; None where it is made of something else."""
    parts = list(region.args) if isinstance(region, sympy.Union) else [region]
    found: list[sympy.Set] = []
    for part in parts:
        if isinstance(part, sympy.FiniteSet):
            found.extend(sympy.FiniteSet(point) for point in part)
        elif isinstance(part, Interval):
            found.append(part)
        else:
            return None
    try:
        return sorted(found, key=lambda part: float(part.inf))
    except (TypeError, ValueError):
        return None


def _same_interval(one: sympy.Set, other: sympy.Set) -> bool:
    if type(one) is not type(other):
        return False
    if (
        isinstance(one, Interval)
        and isinstance(other, Interval)
        and (one.left_open, one.right_open)
        != (
            other.left_open,
            other.right_open,
        )
    ):
        return False
    return all(_same_number(a, b) for a, b in ((one.inf, other.inf), (one.sup, other.sup)))


def _same_relation(one: Relation, other: Relation) -> bool:
    """Equal up to a factor: any but 0 for equations, a positive one for inequalities."""
    if one.operator != other.operator or one.difference.free_symbols != other.difference.free_symbols:
        return False
    names = sorted(one.difference.free_symbols, key=str)
    here: Any = dict(zip(names, _POINTS[0], strict=False))
    if len(here) != len(names):
        return False
    x, y = one.difference.subs(here), other.difference.subs(here)
    factor = x / y if y != 0 else sympy.Integer(0)
    if factor == 0 or (one.operator not in ("=", "!=") and not factor.is_positive):
        return False
    return _same_expression(one.difference, other.difference * factor, 0, 0, 0)


def _is_letter(answer: Answer, letter: str) -> bool:
    match answer:
        case Value(expression=Symbol() as symbol):
            return str(symbol).upper() == letter
        case Word(text=text):
            return text.upper() == letter
    return False


def _same_digits(based: Based, other: Answer) -> bool:
    """A number without its base is read in the other's."""
    match other:
        case Value(expression=expression) if expression.is_Integer:
            return str(expression) == based.digits
        case Word(text=text):
            return text == based.digits
    return False
