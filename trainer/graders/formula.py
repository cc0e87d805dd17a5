"""Formulas of ``multi`` graders: a small language of its own, parsed once and evaluated in floats.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/") sign)*
    sign    = ("+" | "-") sign | power
    power   = atom ("^" sign)?                     2^3^2 is 2^(3^2), -2^2 is -4
    atom    = number | name | function "(" sum ("," sum)* ")" | "(" sum ")"

Nothing of Python is evaluated, all numbers are floats, and length and depth are bounded.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping

MAX_LENGTH = 2000
MAX_DEPTH = 50
NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,400}(?:\.\d{0,400})?(?:[eE][+-]?\d{1,4})?)|(?P<name>[A-Za-z_]\w{0,63})|(?P<sign>[-+*/^(),]))",
    re.ASCII,
)

Formula = Callable[[Mapping[str, float]], float]
"""Of the graders' scores; raises ValueError or ArithmeticError when it has no value."""

#: Name: how many arguments at least and at most, and the function.
FUNCTIONS: dict[str, tuple[int, int, Callable[..., float]]] = {
    "min": (2, 32, lambda *x: min(x)),
    "max": (2, 32, lambda *x: max(x)),
    "abs": (1, 1, math.fabs),
    "floor": (1, 1, lambda x: float(math.floor(x))),
    "ceil": (1, 1, lambda x: float(math.ceil(x))),
    "exp": (1, 1, math.exp),
    "sqrt": (1, 1, math.sqrt),
    "log": (1, 1, math.log),
    "clamp": (3, 3, lambda x, low, high: min(max(x, low), high)),
}


def parse_formula(text: str, names: Iterable[str]) -> Formula:
    """The formula over scores called ``names``. Raises ValueError that says where it is wrong."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the formula has {len(text)} characters; it may have up to {MAX_LENGTH}")
    return _Parser(text, frozenset(names)).parse()


class _Parser:
    def __init__(self, text: str, names: frozenset[str]):
        self._names = names
        self._tokens = _tokens(text)
        self._position = 0
        self._depth = 0

    def parse(self) -> Formula:
        formula = self._sum()
        if self._position < len(self._tokens):
            raise self._unexpected("the end or an operator")
        return formula

    def _sum(self) -> Formula:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"the formula is nested more than {MAX_DEPTH} levels deep")
        operands, operators = [self._product()], []
        while (sign := self._peek()) in ("+", "-"):
            self._position += 1
            operators.append(sign)
            operands.append(self._product())
        self._depth -= 1
        return _chain(operands, operators)

    def _product(self) -> Formula:
        operands, operators = [self._sign()], []
        while (sign := self._peek()) in ("*", "/"):
            self._position += 1
            operators.append(sign)
            operands.append(self._sign())
        return _chain(operands, operators)

    def _sign(self) -> Formula:
        negative = False
        while (sign := self._peek()) in ("+", "-"):
            self._position += 1
            negative ^= sign == "-"
        power = self._power()
        return (lambda scores: -power(scores)) if negative else power

    def _power(self) -> Formula:
        base = self._atom()
        if self._peek() != "^":
            return base
        self._position += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"the formula is nested more than {MAX_DEPTH} levels deep")
        exponent = self._sign()
        self._depth -= 1
        return lambda scores: math.pow(base(scores), exponent(scores))

    def _atom(self) -> Formula:
        kind, text = self._next()
        if kind == "number":
            number = float(text)
            return lambda _scores: number
        if kind == "name" and self._peek() == "(":
            return self._call(text)
        if kind == "name":
            if text not in self._names:
                known = ", ".join(sorted(self._names))
                raise ValueError(
                    f"the formula reads {text!r}, which is not a grader; the graders are: {known}"
                )
            return lambda scores: scores[text]
        if text == "(":
            inner = self._sum()
            self._expect(")")
            return inner
        self._position -= 1
        raise self._unexpected("a number, a grader's name or a parenthesis")

    def _call(self, name: str) -> Formula:
        if name not in FUNCTIONS:
            raise ValueError(f"there is no function {name!r}; the functions are: {', '.join(FUNCTIONS)}")
        fewest, most, function = FUNCTIONS[name]
        self._expect("(")
        arguments = [self._sum()]
        while self._peek() == ",":
            self._position += 1
            arguments.append(self._sum())
        self._expect(")")
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{name} takes {wanted} arguments, not {len(arguments)}")
        return lambda scores: float(function(*(argument(scores) for argument in arguments)))

    def _peek(self) -> str | None:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else None

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise ValueError("the formula ends where a number or a grader's name should be")
        self._position += 1
        return self._tokens[self._position - 1]

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            raise self._unexpected(f"{text!r}")
        self._position += 1

    def _unexpected(self, wanted: str) -> ValueError:
        found = self._peek()
        return ValueError(
            f"the formula has {found!r} where {wanted} should be"
            if found
            else f"the formula ends where {wanted} should be"
        )


def _chain(operands: list[Formula], operators: list[str]) -> Formula:
    if not operators:
        return operands[0]

    def value(scores: Mapping[str, float]) -> float:
        result = operands[0](scores)
        for operator, operand in zip(operators, operands[1:], strict=True):
            other = operand(scores)
            if operator == "+":
                result += other
            elif operator == "-":
                result -= other
            elif operator == "*":
                result *= other
            else:
                result /= other
        return result

    return value


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()[:20]
            raise ValueError(f"the formula has {rest!r}, which is not a number, name or operator")
        kind = match.lastgroup or ""
        found.append((kind, match.group(kind)))
        position = match.end()
    return found
