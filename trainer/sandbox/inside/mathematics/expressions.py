"""One expression, in the notation of ``notation``, as a sympy expression. Read to its end, or Unreadable.

    sum     = term (("+" | "-") term)*
    term    = factor (("*" | "/" | nothing) factor)*      nothing: a product without a sign, as in 2x
    factor  = ("+" | "-") factor | base ("^" exponent)? postfix*
    postfix = "!" | "%" | degrees

Decimals are exact fractions here; how many digits were written is counted aside. Percent, degrees and the
base of an unmarked logarithm stay symbols, for what they mean depends on what they are compared with.
"""

import re

import sympy
from sympy import Expr, Integer, Rational, Symbol

from .notation import Unreadable
from .units import LETTER_UNITS, SHORT
from .vocabulary import (
    ACCENTS,
    BRACED_CIRCLE,
    CALLED,
    DEGREE,
    DIVIDE,
    FUNCTIONS,
    GREEK,
    INVERSES,
    LOG_BASE,
    LOGARITHMS,
    MAX_FACTORIAL,
    MULTIPLY,
    NAMES,
    OF_SEVERAL,
    PERCENT,
    PLUS_MINUS,
    Token,
    could_be_product,
    decimal,
    in_radians,
    power,
    quotient,
    tokens,
)

MAX_DEPTH = 60


class Words(Unreadable):
    """There are words in it."""


class Reader:
    """Reads one expression. ``digits`` is then the most significant digits that a decimal in it has."""

    def __init__(self, text: str):
        self.digits = 0
        self._tokens = tokens(text)
        self._at = self._depth = self._bars = 0

    def read(self) -> Expr:
        """Raises Unreadable unless the whole text is one expression."""
        value = self._sum()
        if self._peek()[0] == "text":
            raise Words(f"{self._peek()[1][6:-1]!r} is not mathematics")
        if self._at < len(self._tokens):
            raise Unreadable(f"{self._peek()[1]!r} is not understood there")
        return value

    # --- sums and products -----------------------------------------------------------------------------

    def _sum(self) -> Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"it is nested more than {MAX_DEPTH} levels deep")
        value = self._term()
        while (sign := self._peek()[1]) in ("+", "-", "\\pm", "\\mp"):
            self._at += 1
            other = self._term()
            if sign in ("\\pm", "\\mp"):
                other = other * (PLUS_MINUS if sign == "\\pm" else -PLUS_MINUS)
            value = value - other if sign == "-" else value + other
        self._depth -= 1
        return value

    def _term(self) -> Expr:
        value = self._factor()
        while True:
            kind, sign = self._peek()
            if sign in MULTIPLY:
                self._at += 1
                value = value * self._factor()
            elif sign in DIVIDE:
                self._at += 1
                value = quotient(value, self._factor())
            elif self._begins_factor(kind, sign):
                value = value * self._factor()
            else:
                return value

    def _begins_factor(self, kind: str, text: str) -> bool:
        """Whether what comes next is multiplied without a sign. Numbers are not: 2 3 is not 6."""
        if kind == "text":
            return self._name_of(text) is not None
        if kind == "number":
            return self._tokens[self._at - 1][0] not in ("number",) and self._tokens[self._at - 1][1] == ")"
        if kind == "letters" or text in ("(", "{", "\\{"):
            return text != "\\{"
        if kind == "command":
            name = text[1:]
            return name in GREEK | ACCENTS | NAMES | {
                "frac",
                "sqrt",
                "root",
                "pi",
                "binom",
                "infty",
                "lfloor",
                "lceil",
            }
        return text == "|" and self._opens_bar()

    def _opens_bar(self) -> bool:
        """Whether a bar here begins an absolute value: never within one, for that one ends here."""
        return not self._bars

    def _factor(self) -> Expr:
        sign = self._peek()[1]
        if sign in ("+", "-", "\\pm", "\\mp"):
            self._at += 1
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise Unreadable(f"it is nested more than {MAX_DEPTH} levels deep")
            value = self._factor()
            self._depth -= 1
            return {"+": value, "-": -value, "\\pm": PLUS_MINUS * value, "\\mp": -PLUS_MINUS * value}[sign]
        value = self._base()
        return self._postfix(value)

    def _postfix(self, value: Expr) -> Expr:
        while True:
            sign = self._peek()[1]
            if sign == "^":
                self._at += 1
                if self._peek()[1] == "\\circ" or self._tokens[self._at : self._at + 3] == BRACED_CIRCLE:
                    self._at += 1 if self._peek()[1] == "\\circ" else 3
                    value = value * DEGREE
                    continue
                value = power(value, self._exponent())
            elif sign == "!":
                self._at += 1
                if value.is_Integer and not 0 <= value <= MAX_FACTORIAL:
                    value = sympy.factorial(value, evaluate=False)
                else:
                    value = sympy.factorial(value)
            elif sign in ("%", "\\%"):
                self._at += 1
                value = value * PERCENT
            else:
                return value

    def _exponent(self) -> Expr:
        _, text = self._peek()
        if text in ("{", "(", "\\{"):
            return self._group()
        if text in ("-", "+"):
            self._at += 1
            value = self._exponent()
            return -value if text == "-" else value
        value = self._base()
        if self._peek()[1] == "^":
            self._at += 1
            return power(value, self._exponent())
        return value

    # --- what stands alone -----------------------------------------------------------------------------

    def _base(self) -> Expr:
        kind, text = self._next()
        if kind == "number":
            return self._number(text)
        if kind == "letters":
            return self._letters(text)
        if kind == "text":
            name = self._name_of(text)
            if name is None:
                raise Words(f"{text[6:-1]!r} is not mathematics")
            return self._letters(name) if name not in ("e", "i") else {"e": sympy.E, "i": sympy.I}[name]
        if text in ("(", "{", "["):
            self._at -= 1
            return self._group()
        if text == "|":
            return self._bars_around()
        if kind == "command":
            return self._command(text[1:])
        raise Unreadable(
            f"{text!r} is not understood there" if text else "it ends where a number or a name should be"
        )

    def _number(self, text: str) -> Expr:
        plain = text.replace(",", "")
        if "." in plain:
            self.digits = max(self.digits, len(plain.replace(".", "").lstrip("0")))
        value = decimal(plain)
        if "." in plain and (period := self._period()) is not None:
            digits = len(plain.partition(".")[2])
            self.digits = 0
            return value + Rational(int(period), (10 ** len(period) - 1) * 10**digits)
        return self._mixed(value) if "." not in plain else value

    def _period(self) -> str | None:
        """The digits of a repeating decimal's period, where one follows: 0.1\\overline{6}."""
        following = self._tokens[self._at : self._at + 4]
        texts = [text for _, text in following]
        if (
            len(texts) == 4
            and texts[0] in ("\\overline", "\\dot", "\\bar")
            and texts[1] == "{"
            and texts[2].isdecimal()
        ):
            self._at += 4
            return texts[2]
        return None

    def _mixed(self, whole: Expr) -> Expr:
        """1\\frac{1}{2} and 1 1/2 are one and a half."""
        texts = [text for _, text in self._tokens[self._at : self._at + 7]]
        if texts[:1] == ["\\frac"]:
            joined = "".join(texts)
            match = re.match(r"\\frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))", joined)
            if match:
                above, below = int(match.group(1) or match.group(2)), int(match.group(3) or match.group(4))
                if 0 < above < below and whole.is_Integer:
                    self._command_fraction_skip()
                    return whole + Rational(above, below)
        kinds = [kind for kind, _ in self._tokens[self._at : self._at + 3]]
        if kinds == ["number", "sign", "number"] and texts[1] == "/":
            above, below = int(decimal(texts[0])), int(decimal(texts[2]))
            if 0 < above < below and texts[0].isdecimal() and texts[2].isdecimal():
                self._at += 3
                return whole + Rational(above, below)
        return whole

    def _command_fraction_skip(self) -> None:
        self._at += 1
        self._argument()
        self._argument()

    def _letters(self, text: str) -> Expr:
        if text in NAMES:
            return self._function(text)
        if text in SHORT and self._at > 1 and self._tokens[self._at - 2][0] == "number":
            raise Words(f"{text!r} is a unit")
        letters, primes = text.rstrip("'"), text[len(text.rstrip("'")) :]
        if len(letters) > 2 and not could_be_product(letters):
            raise Words(f"{letters!r} is not mathematics")
        if len(letters) > 1:
            # Put all but the first back: each may have an index, an argument or a power.
            rest = letters[1:] + primes
            self._tokens.insert(self._at, ("letters", rest))
            letters, primes = letters[0], ""
        if letters in ("e", "i") and not primes and self._peek()[1] != "_":
            return sympy.E if letters == "e" else sympy.I
        return self._called(letters + primes + self._index())

    def _called(self, name: str) -> Expr:
        """A letter; with what is in parentheses behind it, where it calls a function."""
        if name[0] not in CALLED or self._peek()[1] != "(":
            return Symbol(name)
        self._at += 1
        arguments = [self._sum()]
        while self._peek()[1] == ",":
            self._at += 1
            arguments.append(self._sum())
        self._expect(")")
        return sympy.Function(name)(*arguments)

    def _index(self) -> str:
        if self._peek()[1] != "_":
            return ""
        self._at += 1
        _, text = self._next()
        if text != "{":
            return f"_{text.strip('{}').removeprefix(chr(92) + 'text{')}"
        parts = []
        while (token := self._next())[1] != "}":
            if token == ("", ""):
                raise Unreadable("an index has no end")
            parts.append(token[1].removeprefix("\\text{").strip("{}"))
        return "_" + "".join(parts)

    def _command(self, name: str) -> Expr:
        if name == "frac":
            above = self._argument()
            return quotient(above, self._argument())
        if name in ("sqrt", "root"):
            return self._root()
        if name == "binom":
            return sympy.binomial(self._argument(), self._argument())
        if name == "pi":
            return sympy.pi
        if name == "infty":
            return sympy.oo
        if name in ("lfloor", "lceil"):
            value = self._sum()
            self._expect("\\rfloor" if name == "lfloor" else "\\rceil")
            return sympy.floor(value) if name == "lfloor" else sympy.ceiling(value)
        if name in NAMES:
            return self._function(name)
        if name in GREEK:
            return self._called("\\" + name + self._index())
        if name in ACCENTS:
            return Symbol(f"\\{name}{{{self._raw_argument()}}}" + self._index())
        raise Unreadable(f"'\\{name}' is not understood here")

    def _root(self) -> Expr:
        degree: Expr = Integer(2)
        if self._peek()[1] == "[":
            self._at += 1
            degree = self._sum()
            self._expect("]")
        value = self._argument()
        return power(value, 1 / degree) if degree != 2 else sympy.sqrt(value)

    def _function(self, name: str) -> Expr:
        if name in OF_SEVERAL:
            return self._of_several(name)
        base: Expr | None = None
        exponent: Expr | None = None
        for _ in range(2):
            if self._peek()[1] == "_" and name in LOGARITHMS:
                self._at += 1
                base = self._argument()
            elif self._peek()[1] == "^":
                self._at += 1
                exponent = self._exponent()
        argument = in_radians(self._function_argument())
        if name in LOGARITHMS:
            base = Integer(10) if name == "lg" else LOG_BASE if base is None else base
            value = sympy.log(argument) / sympy.log(base)
        elif exponent == -1 and name in INVERSES:
            return INVERSES[name](argument)
        else:
            value = FUNCTIONS[name](argument)
        return value if exponent is None else power(value, exponent)

    def _function_argument(self) -> Expr:
        """What is in the parentheses; without such, the product up to the next sign or function."""
        if self._peek()[1] in ("(", "{", "[", "|"):
            value = self._base()
            return self._postfix(value) if self._peek()[1] in ("!", "\\%") else value
        value = self._factor()
        while True:
            kind, text = self._peek()
            if text in NAMES or text[1:] in NAMES or text == "(" or not self._begins_factor(kind, text):
                return value
            value = value * self._factor()

    def _of_several(self, name: str) -> Expr:
        opened = self._next()[1]
        if opened not in ("(", "{", "\\{"):
            raise Unreadable(f"{name} needs its arguments in parentheses")
        arguments = [self._sum()]
        while self._peek()[1] == ",":
            self._at += 1
            arguments.append(self._sum())
        self._expect({"(": ")", "{": "}", "\\{": "\\}"}[opened])
        if name in ("gcd", "lcm"):
            value = arguments[0]
            for other in arguments[1:]:
                value = OF_SEVERAL[name](value, other)
            return value
        return OF_SEVERAL[name](*arguments)

    def _group(self) -> Expr:
        opened = self._next()[1]
        closed = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}[opened]
        bars, self._bars = self._bars, 0
        value = self._sum()
        self._bars = bars
        self._expect(closed)
        return value

    def _bars_around(self) -> Expr:
        self._bars += 1
        value = self._sum()
        self._bars -= 1
        self._expect("|")
        return sympy.Abs(value)

    def _argument(self) -> Expr:
        """Of a command: a group, or the one sign behind it (the first digit of a number)."""
        kind, text = self._peek()
        if text in ("{", "("):
            return self._group()
        if kind == "number" and len(text) > 1:
            self._tokens[self._at : self._at + 1] = [("number", text[0]), ("number", text[1:])]
        if kind == "letters" and len(text) > 1:
            self._tokens[self._at : self._at + 1] = [("letters", text[0]), ("letters", text[1:])]
        return self._base()

    def _raw_argument(self) -> str:
        if self._peek()[1] != "{":
            return self._next()[1]
        self._at += 1
        parts = []
        while (token := self._next())[1] != "}":
            if token == ("", ""):
                raise Unreadable("a group has no end")
            parts.append(token[1])
        return "".join(parts)

    # --- tokens ----------------------------------------------------------------------------------------

    def _name_of(self, text: str) -> str | None:
        """The name that a ``\\text`` is: of a function, or a letter that is not a unit."""
        inner = text[6:-1].strip()
        letter = re.fullmatch(r"[A-Za-z]", inner) and inner not in LETTER_UNITS
        return inner if inner in NAMES or letter else None

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        found = self._next()[1]
        if found != text:
            raise Unreadable(
                f"{found!r} stands where {text!r} should" if found else f"it ends before {text!r}"
            )


def read_expression(text: str) -> tuple[Expr, int]:
    """The expression and its decimals' significant digits (0: no decimals). Raises Unreadable."""
    reader = Reader(text)
    try:
        value = reader.read()
    except Unreadable:
        raise
    except (TypeError, ValueError, ArithmeticError, RecursionError, AttributeError) as error:
        raise Unreadable(f"it has no value: {error}") from None
    if value.has(sympy.nan, sympy.zoo):
        raise Unreadable("it has no value")
    return value, reader.digits
