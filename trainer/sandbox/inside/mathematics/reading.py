"""A whole text as an answer: a value with its unit, a word, a relation, an interval, several of these.

``read`` understands a text from its first character to its last, or raises Unreadable: no part of it is ever
taken for the whole.
"""

import re
from dataclasses import replace

import sympy
from sympy import S, Set, Symbol

from .expressions import Words, read_expression
from .inequalities import ordered
from .measured import measured
from .notation import Unreadable, normalized
from .pieces import closing, pieces, split
from .shapes import Answer, Assigned, Based, Grid, Labelled, Region, Relation, Several, Value, Word, as_region

MAX_PARTS = 200
MAX_WORDS = 8
MAX_DEPTH = 12


_ORDERS = {"<": "<", ">": ">", "\\leq": "<=", "\\geq": ">=", "\\neq": "!=", "=": "=", "\\approx": "="}
_SETS: dict[str, Set] = {
    "\\mathbb{R}": S.Reals,
    "\\mathbb{Z}": S.Integers,
    "\\mathbb{N}": S.Naturals,
    "\\mathbb{Q}": S.Rationals,
    "\\emptyset": S.EmptySet,
}
_SET_WORDS: dict[str, Set] = {
    **dict.fromkeys(("all real numbers", "all reals", "every real number", "all real values"), S.Reals),
    **dict.fromkeys(
        ("no solution", "no solutions", "no real solutions", "no real solution", "empty set"), S.EmptySet
    ),
}
_NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "hundred": 100,
}
_AND = {"and", "\\land", "和", "与", "und", "et"}
_OR = {"or", "\\lor", "或", "oder", "ou"}
_HEDGE = re.compile(
    r"^(?:approximately|about|around|roughly|exactly|only|just|equals?|is|are)\s+", re.IGNORECASE
)
_CHOICE = re.compile(r"^(?:\\text\{\s*)?\(?([A-H])(?:\)|\.|:)\s*\}?\s*(\S.*)$")
_MATRIX = re.compile(
    r"^\\begin\{(?:[pbBvV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(.*)\\end\{[A-Za-z]+\}$", re.DOTALL
)
_REPEATING = re.compile(r"^(-?\d*)\.(\d*?)(\d{1,6}?)\3{1,}\s*\\ldots$")
_BASED = re.compile(r"^([0-9A-Fa-f]+)_(?:\{?\s*(\d{1,2})\s*\}?|\{?\\text\{(\w+)\}\}?)$")
_TEMPERATURE = re.compile(
    r"^(-?[\d.,]+)\s*\^\s*\{?\\circ\s*\}?\s*(?:\\text\{\s*)?([CF])(?:elsius|ahrenheit)?\s*\}?$"
)
_EUROPEAN = re.compile(r"^-?\d{1,3}(?:\.\d{3})+,\d+$|^-?\d{1,3}(?:\.\d{3}){2,}$")
_GROUPED = re.compile(
    r"^-?\d{1,3}(?:(?P<s>[ ']|\\,)\d{3})(?:(?P=s)\d{3})*(?:\.\d+)?$|^-?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?$"
)
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")
_SCIENTIFIC = re.compile(r"(?<=\d)\s*[eE]\s*([+-]?\d{1,4})\b(?![A-Za-z])")
_TIMES_X = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\{))")


def read(text: str) -> Answer:
    """What a text says as an answer. Raises Unreadable, saying what is not understood."""
    return _read(normalized(text), 0)


def _read(text: str, depth: int) -> Answer:
    text = _unwrapped(text)
    if not text:
        raise Unreadable("there is nothing in it")
    if depth > MAX_DEPTH:
        raise Unreadable("its parts are nested too deeply")
    for reader in (
        _plain_number,
        _special,
        _labelled,
        _matrix,
        _listed,
        _related,
        _combined,
        _bracketed,
    ):
        if (found := reader(text, depth)) is not None:
            return found
    value = measured(text)
    return _in_words(text) if value is None else value


def _unwrapped(text: str) -> str:
    """Without a group's braces or a ``\\text`` around all of it, and words such as "about" in front."""
    text = _HEDGE.sub("", text.strip())
    if match := re.fullmatch(r"\\text\{([^{}]*)\}", text):
        return _unwrapped(match.group(1).strip().rstrip("."))
    if text.startswith("{") and closing(text, 0) == len(text) - 1:
        return _unwrapped(text[1:-1])
    return text


# --- what is told apart at first sight ---------------------------------------------------------------------


def _plain_number(text: str, depth: int) -> Answer | None:
    """Numbers as data files and people have them, with separators of thousands of any kind."""
    if _GROUPED.match(text):
        return _read(re.sub(r"[ ',]|\\,", "", text), depth + 1)
    if _EUROPEAN.match(text):
        return _read(text.replace(".", "").replace(",", "."), depth + 1)
    if match := _REPEATING.match(text):
        whole, before, period = match.groups()
        return _read(f"{whole or '0'}.{before}\\overline{{{period}}}", depth + 1)
    changed = _TIMES_X.sub(r" \\times ", _SCIENTIFIC.sub(r" \\times 10^{\1}", text))
    return _read(changed, depth + 1) if changed != text else None


def _special(text: str, depth: int) -> Answer | None:
    if text in _SETS:
        return Region(_SETS[text])
    plain = text.casefold().rstrip(".!")
    if plain in _SET_WORDS:
        return Region(_SET_WORDS[plain])
    if plain in _NUMBER_WORDS:
        return Value(sympy.Integer(_NUMBER_WORDS[plain]))
    if match := _TEMPERATURE.match(text):
        found = _read(match.group(1), depth + 1)
        return replace(found, unit=f"°{match.group(2).lower()}") if isinstance(found, Value) else found
    if match := _BASED.match(text):
        base = match.group(2) or {"two": "2", "eight": "8", "ten": "10", "hex": "16", "sixteen": "16"}.get(
            match.group(3)
        )
        if base is not None and 2 <= int(base) <= 36:
            return Based(match.group(1).lower().lstrip("0") or "0", int(base))
    if "\\ldots" in text:
        raise Unreadable("it leaves something out with dots")
    if "\\begin{cases}" in text:
        raise Unreadable("it distinguishes cases")
    return None


def _labelled(text: str, depth: int) -> Answer | None:
    match = _CHOICE.match(text)
    if match is None or match.group(2).startswith(("(", "^", "_", "+", "-", "=", "\\cup", "\\cap", "/")):
        return None
    try:
        return Labelled(match.group(1), _read(match.group(2).strip(), depth + 1))
    except Unreadable:
        return Labelled(match.group(1), None)


def _matrix(text: str, depth: int) -> Answer | None:
    match = _MATRIX.match(text)
    if match is None:
        return None
    if text.startswith(("\\begin{vmatrix}", "\\begin{Vmatrix}")):
        raise Unreadable("a determinant that is not worked out")
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(1)) if row.strip()]
    read_rows = tuple(tuple(_read(cell.strip(), depth + 1) for cell in row.split("&")) for row in rows)
    if not read_rows or len({len(row) for row in read_rows}) != 1 or sum(map(len, read_rows)) > MAX_PARTS:
        raise Unreadable("its rows have different lengths")
    return Grid(read_rows)


# --- lists, relations, sets --------------------------------------------------------------------------------


def _listed(text: str, depth: int) -> Answer | None:
    """3, 5 and 7; x = 2 or x = 3; (0, 1), (1, 2)."""
    parts, words = [""], []
    for piece, level in pieces(text):
        word = piece[6:-1].strip() if piece.startswith("\\text{") else piece
        if level == 0 and (piece in (",", ";") or word.casefold() in _AND | _OR):
            parts.append("")
            words.append(word.casefold())
        else:
            parts[-1] += piece
    parts = [part.strip() for part in parts]
    if len(parts) == 1:
        return None
    # ", and" separates once.
    kept = [part for part in parts if part]
    if not kept:
        raise Unreadable("there is nothing in it")
    if len(kept) > MAX_PARTS:
        raise Unreadable(f"it has {len(kept)} parts")
    decimal = Value(*read_expression(text.replace(",", "."))) if _DECIMAL_COMMA.match(text) else None
    found = tuple(_read(part, depth + 1) for part in _named_alike(kept))
    if len(found) == 1:
        return found[0]
    if all(isinstance(one, Region) for one in found):
        sets = [one.set for one in found if isinstance(one, Region)]
        name = next((one.name for one in found if isinstance(one, Region) and one.name), "")
        joined = (
            sympy.Intersection(*sets)
            if set(words) & _AND or (set(words) <= {","} and name)
            else sympy.Union(*sets)
        )
        return Region(joined, name)
    return Several(_flat(found), "", decimal)


def _named_alike(parts: list[str]) -> list[str]:
    """x = 2 or 3: both are x."""
    match = re.match(r"^([A-Za-z](?:_\{?\w+\}?)?)\s*=\s*(?!.*=)", parts[0])
    signs = ("=", "<", ">", "\\in", "\\leq", "\\geq", "\\neq")
    if match is None or any(sign in part for part in parts[1:] for sign in signs):
        return parts
    return [parts[0], *(f"{match.group(1)} = {part}" for part in parts[1:])]


def _flat(parts: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Lists within a list, such as that of 1 and ±2, are one list."""
    flat: list[Answer] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Several) and part.brackets == "" else [part])
    return tuple(flat)


def _related(text: str, depth: int) -> Answer | None:
    """x = 2, 0 < x <= 3, x in (0, 1), y = 2x + 1."""
    sides, operators = [""], []
    for piece, level in pieces(text):
        if level == 0 and (piece in _ORDERS or piece == "\\in"):
            operators.append("in" if piece == "\\in" else _ORDERS[piece])
            sides.append("")
        else:
            sides[-1] += piece
    if not operators:
        return None
    sides, operators = _joined(sides, operators)
    if operators == ["in"]:
        return _within(sides[0], _read(sides[1], depth + 1))
    if set(operators) == {"="}:
        return _equal_sides(sides, depth)
    if "in" in operators or not all(sides):
        raise Unreadable("its relations are not understood")
    return ordered(sides, operators)


def _joined(sides: list[str], operators: list[str]) -> tuple[list[str], list[str]]:
    """<= and >= are one operator each."""
    kept_sides, kept = [sides[0].strip()], []
    for side, operator in zip(sides[1:], operators, strict=True):
        if operator == "=" and not kept_sides[-1] and kept and kept[-1] in ("<", ">", "!"):
            kept[-1] += "="
            kept_sides[-1] = side.strip()
            continue
        kept.append(operator)
        kept_sides.append(side.strip())
    return kept_sides, kept


def _within(name: str, answer: Answer) -> Answer:
    if isinstance(answer, Region):
        return replace(answer, name=name)
    if isinstance(answer, Several) and (region := as_region(answer)) is not None and answer.brackets != "{}":
        return replace(region, name=name)
    return answer


def _equal_sides(sides: list[str], depth: int) -> Answer:
    if not sides[-1]:
        raise Unreadable("it ends with an equals sign")
    first, last = sides[0], sides[-1]
    if not first:
        return _read(last, depth + 1)
    name = _name(first)
    if name is not None:
        return Assigned(name, _read(last, depth + 1))
    answer = _read(last, depth + 1)
    if not isinstance(answer, Value):
        raise Unreadable("its left side is not a name")
    left, _ = read_expression(first)
    if isinstance(answer.expression, Symbol) and not left.free_symbols:
        return Assigned(str(answer.expression), _read(first, depth + 1))
    if not left.free_symbols and not answer.expression.free_symbols:
        return answer  # 2 + 3 = 5
    return Relation("=", left - answer.expression)


def _name(text: str) -> str | None:
    """The name that a side of an equation is; None where it is an expression."""
    try:
        expression, _ = read_expression(text)
    except Words:
        return " ".join(re.sub(r"\\text\{([^{}]*)\}", r"\1", text).casefold().split())
    except Unreadable:
        return " ".join(text.split()) if re.match(r"\\(?:angle|triangle|mathbb|Delta|text)", text) else None
    if isinstance(expression, Symbol) or expression.func.__name__ in ("f", "g", "h", "F", "G", "H", "P", "p"):
        return str(expression)
    letters = re.fullmatch(r"\|?([A-Z]{2,3})\|?|\\overline\{([A-Z]{2})\}", text.strip())
    return (letters.group(1) or letters.group(2)) if letters else None


def _combined(text: str, depth: int) -> Answer | None:
    """Unions, intersections and differences of sets, from left to right."""
    parts, operators = [""], []
    for piece, level in pieces(text):
        united = piece == "U" and parts[-1].rstrip().endswith((")", "]", "\\}"))
        if level == 0 and (piece in ("\\cup", "\\cap", "\\setminus") or united):
            operators.append("\\cup" if united else piece)
            parts.append("")
        else:
            parts[-1] += piece
    if not operators:
        return None
    regions = [as_region(_read(part, depth + 1)) for part in parts]
    sets = [one.set for one in regions if one is not None]
    if len(sets) != len(parts):
        raise Unreadable("it combines what are not sets of numbers")
    result = sets[0]
    for operator, other in zip(operators, sets[1:], strict=True):
        if operator == "\\cup":
            result = sympy.Union(result, other)
        else:
            result = (
                sympy.Intersection(result, other) if operator == "\\cap" else sympy.Complement(result, other)
            )
    return Region(result)


def _bracketed(text: str, depth: int) -> Answer | None:
    """(1, 2), [0, 1), {3, 5}, <1, 2>, {x : x > 3}; None where the brackets only group."""
    opened = next((mark for mark in ("\\{", "\\langle", "(", "[") if text.startswith(mark)), None)
    if opened is None:
        return None
    end = closing(text, 0)
    closed = next((mark for mark in ("\\}", "\\rangle", ")", "]") if text.endswith(mark)), None)
    if closed is None or end != len(text) - len(closed):
        return None
    inner = text[len(opened) : end].strip()
    if opened == "\\{":
        if match := re.match(r"^(.{1,20}?)\s*(?:\||:|\\mid|\\text\{\s*such that\s*\})\s*(.+)$", inner):
            return _within(match.group(1).split("\\in")[0].strip(), _read(match.group(2), depth + 1))
        brackets = "{}"
    else:
        brackets = "()" if opened == "\\langle" else opened + closed
    parts = split(inner, ",") if "," in inner else split(inner, ";")
    if len(parts) == 1 and brackets != "{}":
        return None if brackets in ("()", "[]") else _unclosed()
    found = tuple(_read(part, depth + 1) for part in parts) if inner else ()
    if not found:
        return Region(S.EmptySet)
    if len(found) > MAX_PARTS:
        raise Unreadable(f"it has {len(found)} parts")
    return Several(_flat(found) if brackets == "{}" else found, brackets)


def _unclosed() -> None:
    raise Unreadable("its brackets do not close")


# --- words -------------------------------------------------------------------------------------------------


def _in_words(text: str) -> Answer:
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", plain)
    left = re.sub(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[\s.,:;!?'\"()-]+|\d+", "", plain)
    if not words or left or len(words) > MAX_WORDS:
        raise Unreadable(f"{text[:60]!r} is not a mathematical expression")
    return Word(" ".join(re.sub(r"[.,:;!?'\"()-]", " ", plain).casefold().split()))
