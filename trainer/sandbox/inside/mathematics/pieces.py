"""A text in pieces: numbers, words and commands, each with the depth of brackets that it stands at."""

import re
from collections.abc import Iterator

_OPEN, _CLOSE = (
    {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle", "{": "}"},
    {")", "]", "\\}", "\\rangle", "}"},
)
_PIECE = re.compile(
    r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])|\\text\{[^{}]*\}|\\begin\{[^{}]*\}.*?\\end\{[^{}]*\}|\\[A-Za-z]+|\\.|[A-Za-z]+|.",
    re.DOTALL,
)


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """Pieces of the text with the depth of brackets that they stand at; bars are not counted."""
    level = 0
    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece in _CLOSE:
            level -= 1
        yield piece, max(level, 0)
        if piece in _OPEN:
            level += 1


def split(text: str, separator: str) -> list[str]:
    """The parts between separators outside of all brackets."""
    parts = [""]
    for piece, level in pieces(text):
        if level == 0 and piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def closing(text: str, start: int) -> int:
    """Where the bracket at ``start`` is closed, by a bracket of any kind; -1: nowhere."""
    level = 0
    for match in _PIECE.finditer(text, start):
        if match.group() in _OPEN:
            level += 1
        elif match.group() in _CLOSE:
            level -= 1
            if level == 0:
                return match.start()
    return -1
