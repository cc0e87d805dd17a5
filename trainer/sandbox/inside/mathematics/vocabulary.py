"""What an expression is made of: its tokens, the names that mean something, and powers that fit in memory."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import sympy
from sympy import Expr, Rational, Symbol

from .notation import Unreadable

PERCENT, DEGREE, LOG_BASE = Symbol("%"), Symbol("°"), Symbol("log base", positive=True)
PLUS_MINUS = Symbol("±")
#: Powers and factorials beyond these are not multiplied out: 9^(9^9) has more digits than fit anywhere.
MAX_EXPONENT, MAX_FACTORIAL = 5_000, 3_000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+\.(?=\\(?:overline|dot|bar)\b)|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<text>\\text\{[^{}]*\})"
    r"|(?P<command>\\[A-Za-z]+|\\[%{}|])"
    r"|(?P<letters>[A-Za-z]+'*)"
    r"|(?P<sign>[-+*/^_(){}\[\]|!%=<>,:&']))"
)
Token = tuple[str, str]
BRACED_CIRCLE = [("sign", "{"), ("command", "\\circ"), ("sign", "}")]

FUNCTIONS: dict[str, Callable[..., Expr]] = {
    **{
        name: getattr(sympy, name)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
    },
    **{f"arc{name}": getattr(sympy, f"a{name}") for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{
        name: getattr(sympy, name)
        for name in ("asin", "acos", "atan", "exp", "asinh", "acosh", "atanh", "coth")
    },
    "ln": sympy.log,
    "abs": sympy.Abs,
    "sgn": sympy.sign,
    "sign": sympy.sign,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "Re": sympy.re,
    "Im": sympy.im,
    "arg": sympy.arg,
    "det": sympy.Determinant,
}
INVERSES = {name: FUNCTIONS[f"arc{name}"] for name in ("sin", "cos", "tan", "cot", "sec", "csc")}
INVERSES |= {name: getattr(sympy, f"a{name}") for name in ("sinh", "cosh", "tanh")}
OF_SEVERAL = {"max": sympy.Max, "min": sympy.Min, "gcd": sympy.gcd, "lcm": sympy.lcm}
LOGARITHMS = {"log", "lg"}
NAMES = set(FUNCTIONS) | set(OF_SEVERAL) | LOGARITHMS
GREEK = frozenset(
    re.findall(
        r"\w+",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon "
        "phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar",
    )
)
ACCENTS = frozenset(
    re.findall(
        r"\w+", "overline bar vec hat tilde widehat overrightarrow widetilde mathcal mathbb mathfrak split"
    )
)
MULTIPLY, DIVIDE = {"*", "\\times", "\\cdot"}, {"/", "\\div"}
#: Letters that call a function when a parenthesis follows.
CALLED = set("fghFGHPp")


def tokens(text: str) -> list[Token]:
    """Raises Unreadable for a character that has no meaning here."""
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unreadable(f"{text[position:].lstrip()[:12]!r} is not understood")
        kind = match.lastgroup or ""
        found.append((kind, match.group(kind)))
        position = match.end()
    return found


def power(base: Expr, exponent: Expr) -> Expr:
    """base^exponent, multiplied out where the result has a size that fits."""
    huge = exponent.is_Rational and abs(exponent) > MAX_EXPONENT
    tower = exponent.is_number and not exponent.is_Rational and exponent.has(sympy.Pow)
    if base.is_Rational and base not in (0, 1, -1) and (huge or tower):
        return sympy.Pow(base, exponent, evaluate=False)
    return sympy.Pow(base, exponent)


def quotient(above: Expr, below: Expr) -> Expr:
    """Raises Unreadable where it has none."""
    if below == 0:
        raise Unreadable("it divides by 0")
    return above / below


def in_radians(argument: Any) -> Expr:
    """With a degree as its number."""
    return argument.subs(DEGREE, sympy.pi / 180)


def decimal(text: str) -> Any:
    """The exact fraction that digits say."""
    whole, _, fraction = text.replace(",", "").partition(".")
    return Rational(int((whole or "0") + fraction), 10 ** len(fraction))


def could_be_product(letters: str) -> bool:
    """xyz and abc are products, cat is a word: letters in the alphabet's order."""
    of_one_case = letters.islower() or letters.isupper()
    return of_one_case and len(letters) <= 4 and all(one < other for one, other in pairwise(letters))
