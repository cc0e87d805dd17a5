"""A value: one expression, with a currency before it or a unit behind it, or a ratio of several."""

import re
from dataclasses import replace

from sympy import Expr

from . import units
from .expressions import Words, read_expression
from .notation import Unreadable
from .pieces import split
from .shapes import Answer, Several, Value
from .vocabulary import DEGREE, PLUS_MINUS

_CURRENCY = re.compile(
    rf"^(-?)\s*(?:\\text\{{)?\s*(\\\$|[{re.escape(units.CURRENCIES)}]|USD|EUR|GBP|Rs\.?)\s*\}}?\s*(?=[\d.\\(-])"
)
_UNIT_START = re.compile(r"\\text\{|(?<![\\A-Za-z])[A-Za-z]{2,}|[€£¥₹]|\\\$")
_UNIT_TAIL = re.compile(r"(?:[\sA-Za-z./€£¥₹-]|\\text\{[^{}]*\}|\^ ?\{?-?[23]\}?|\\cdot|\\\$)+")


def measured(text: str) -> Answer | None:
    """An expression, with a currency before it or a unit behind it; None where there are words alone."""
    if match := _CURRENCY.match(text):
        found = measured(match.group(1) + text[match.end() :])
        currency = match.group(2).removeprefix("\\")
        if isinstance(found, Value):
            return replace(found, unit=found.unit if found.unit and not units.known(currency) else currency)
        return found
    if (ratio := _ratio(text)) is not None:
        return ratio
    try:
        return _value(*read_expression(text))
    except Words:
        pass
    for match in _UNIT_START.finditer(text):
        body, tail = text[: match.start()].strip(), text[match.start() :]
        if not body or not _UNIT_TAIL.fullmatch(tail):
            continue
        try:
            found = _value(*read_expression(body))
        except Unreadable:
            continue
        return _with_unit(found, tail)
    return None


def _with_unit(answer: Answer, tail: str) -> Answer:
    unit = re.sub(r"\\text\{([^{}]*)\}", r"\1", tail).replace("\\cdot", " ").replace("\\", "")
    unit = " ".join(unit.split()).strip(". ")
    if isinstance(answer, Several):
        return replace(answer, parts=tuple(_with_unit(part, tail) for part in answer.parts))
    if not isinstance(answer, Value):
        return answer
    if answer.expression.has(DEGREE):  # 20 degrees C
        return Value(answer.expression.subs(DEGREE, 1), answer.digits, f"°{unit[:1]}".lower() if unit else "")
    return replace(answer, unit=unit)


def _value(expression: Expr, digits: int) -> Answer:
    if not expression.has(PLUS_MINUS):
        return Value(expression, digits)
    return Several(tuple(Value(expression.subs(PLUS_MINUS, sign), digits) for sign in (1, -1)))


def _ratio(text: str) -> Answer | None:
    parts = split(text, ":")
    if len(parts) < 2 or not all(parts):
        return None
    values = [read_expression(part) for part in parts]
    if len(values) > 2:
        return Several(tuple(Value(*one) for one in values), ":")
    (above, one), (below, other) = values
    if below == 0:
        raise Unreadable("it divides by 0")
    return Value(above / below, max(one, other))
