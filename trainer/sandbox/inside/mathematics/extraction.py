"""Where a response says its answer: in boxes, after words that announce it, or at its end."""

import re
from collections.abc import Iterator
from itertools import pairwise

from .notation import Unreadable
from .reading import read
from .shapes import Answer, Relation, Value, Word

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(\{|[^\s{\\$]+)")
_LABEL = r"(?:[A-Za-z](?:_\{?\w+\}?)?\s*=)"
#: What may stand between boxes that are one answer.
_BETWEEN = re.compile(
    r"(?:[\s,;&$.]|\\[,;:!\\()\[\] ]|\\q?quad|\\text\{\s*(?:,?\s*(?:and|or))?\s*\}|\b(?:and|or|und|et|y)\b"
    r"|[和或與与]"
    rf"|{_LABEL})*",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"(?:\b(?:final\s+|correct\s+)?(?:answers?|solutions?|results?|value)\b[^\n.:=]{0,40}?(?:\bis\b|\bare\b|:|=|\bequals\b)"
    r"|\b(?:answers?|solutions?)\b\s*(?:to|of|for)\b[^\n.:=]{0,80}?(?:\bis\b|\bare\b|:|=)"
    r"|####|\b[Aa]ntwort(?:en)?\b[^\n.:]{0,20}?(?:\bist\b|:|\bsind\b)|\brespuestas?\b[^\n.:]{0,20}?(?:\bes\b|\bson\b|:)"
    r"|\br[ée]ponses?\b[^\n.:]{0,20}?(?:\best\b|\bsont\b|:)|(?:最终)?(?:答案|结果|結果)\s*(?:是|为|為|:|：|=)+|答え\s*(?:は|:|：)"
    r"|[Оо]твет\s*(?:это|:|—|-)?|الإجابة(?:\s+الصحيحة)?\s*(?:هي|:)|정답은?|उत्तर\s*(?:है|:)?)\s*(?:\*\*|__)?\s*(?:[:：]\s*)?",
    re.IGNORECASE,
)
_SEGMENT = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$])\$(?!\$)((?:[^$\\]|\\.)+?)\$", re.DOTALL
)
_BOLD = re.compile(r"\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*")
_JOINS = re.compile(r"[\s,;.]*(?:\b(?:and|or)\b|[,;])[\s,;]*|\s*")
_CLAUSE = re.compile(
    r"(?<!\d)\.(?:\s|$)|\.(?=\s+[A-Z])|[。！；]|\n|\s+(?:because|since|as|so|which|where|when|for|but|though|that)\b|\s+[(（]|\?",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"(?:[-+−]?\s*(?:\\\$|[$€£¥])?\s*)"
    r"(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+\s+\d+\s*/\s*\d+|\d+(?:\.\d+)?|\.\d+|[½¼¾⅓⅔√π∞]|\\[A-Za-z]+|[xyz](?![A-Za-z]))"
    r"(?:[\d\s.,+\-−*/^(){}√π²³½¼¾⅓⅔°%!×·=<>≤≥|∞_]|\\[A-Za-z]+|\\[^A-Za-z\s]|(?<![A-Za-z])[a-zA-Z](?![A-Za-z]))*"
)
_A_BOX = re.compile(r"\\(?:boxed|fbox|framebox)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
MAX_TRIED = 12
#: What reading a text may end in: our own word, or sympy's for what it cannot make of it.
UNREADABLE = (
    Unreadable,
    RecursionError,
    TypeError,
    ValueError,
    ArithmeticError,
    NotImplementedError,
    AttributeError,
)


def answer_of(response: str) -> Answer | None:
    """What a response answers; None where it says nothing that can be read as an answer."""
    words: Answer | None = None
    boxed = _A_BOX.search(response) is not None
    for candidate in candidates(response):
        try:
            found = read(candidate)
            if isinstance(found, Relation) and not boxed and "=" in candidate:
                found = _result(candidate, found)
        except UNREADABLE:
            continue
        if not isinstance(found, Word):
            return found
        words = words or found
    return words


def _result(text: str, relation: Relation) -> Answer:
    """What an equation in a sentence comes to: "Then x + 1 = 4"."""
    result = read(text.rpartition("=")[2])
    return result if is_number(result) else relation


def reference_of(reference: str) -> Answer:
    """A row's reference, read as a whole; of a solution, what is in its box or behind its ####.

    Raises Unreadable.
    """
    boxed = boxed_text(reference)
    if boxed is not None:
        return read(boxed)
    if "####" in reference:
        return read(reference.rpartition("####")[2])
    return read(reference)


def candidates(response: str) -> Iterator[str]:
    """Where the answer may stand, best first; a box, where there is one, is the only place."""
    boxed = boxed_text(response)
    if boxed is not None or _A_BOX.search(response):
        yield from [] if boxed is None else [boxed]
        return
    if announced := [match.end() for match in _ANNOUNCED.finditer(response)]:
        yield from _of_clause(response[announced[-1] :])
    if segments := list(_SEGMENT.finditer(response)):
        yield from _last_segments(response, segments)
    if _is_short(response):
        yield response
    if bold := _BOLD.findall(response):
        yield bold[-1]
    lines = [line for line in response.splitlines() if line.strip()]
    if lines:
        if _is_short(lines[-1]):
            yield lines[-1]
        yield from _plain_ends(lines[-1])
    if len(lines) > 1:
        yield from _plain_ends(response[-2000:])


def _is_short(text: str) -> bool:
    """Whether a text may be an answer itself: it has not the words of a sentence."""
    words = [word for word in _WORD.findall(text) if word.casefold() not in ("and", "or")]
    return len(text) < 300 and len(words) <= 3


def boxed_text(text: str) -> str | None:
    """The last box's content; of several that are one answer, all, with commas. None: no finished box."""
    boxes: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text):
        if boxes and match.start() < boxes[-1][1]:
            continue  # a box within a box
        if match.group(1) != "{":
            boxes.append((match.start(), match.end(), match.group(1)))
        elif (end := _closing_brace(text, match.end())) >= 0:
            boxes.append((match.start(), end + 1, text[match.end() : end]))
        else:
            return None  # cut off: what it was going to say is not known
    if not boxes:
        return None
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box[1] : group[0][0]]
        if len(between) > 40 or not _BETWEEN.fullmatch(between) or not between.strip():
            break
        group.insert(0, box)
    label = re.search(rf"({_LABEL})\s*(?:\$|\\\()?$", text[: group[0][0]]) if len(group) > 1 else None
    texts = [label.group(1) + group[0][2] if label and not _has_relation(group[0][2]) else group[0][2]]
    for before, box in pairwise(group):
        named = re.search(rf"({_LABEL})\s*$", text[before[1] : box[0]].rstrip("$ \\("))
        texts.append(named.group(1) + box[2] if named and not _has_relation(box[2]) else box[2])
    return ", ".join(dict.fromkeys(one.strip() for one in texts))


def _has_relation(text: str) -> bool:
    return any(sign in text for sign in "=<>")


def _closing_brace(text: str, start: int) -> int:
    level = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if match.group() in "{}":
            level += 1 if match.group() == "{" else -1
        if level == 0:
            return match.start()
    return -1


def _of_clause(rest: str) -> Iterator[str]:
    """Of what follows "the answer is": as much as can be read, the whole line first."""
    rest = rest.lstrip(" \t*_:：\n")
    line = rest.split("\n", 1)[0]
    if (plain := line.rstrip(" \t*_`").lstrip("`")) != line.rstrip():  # the ends of bold letters, or of code
        yield plain
    block = re.match(r"\s*(\$\$.+?\$\$|\\\[.+?\\\])", rest, re.DOTALL)
    if block:
        yield block.group(1)
    yield line
    if segments := list(_SEGMENT.finditer(line)):
        if segments[0].start() == 0:
            yield from _first_segments(line, segments)
        yield from _last_segments(line, segments)
    ends = [match.start() for match in _CLAUSE.finditer(line)]
    for end in ends[:MAX_TRIED]:
        if line[:end].strip():
            yield line[:end]
    yield from _plain_starts(line)


def _last_segments(text: str, segments: "list[re.Match[str]]") -> Iterator[str]:
    """The last of the formulas, with those before it that "and" or a comma joins to it."""
    first = len(segments) - 1
    while (
        first
        and _JOINS.fullmatch(between := text[segments[first - 1].end() : segments[first].start()])
        and between.strip()
    ):
        first -= 1
    yield text[segments[first].start() : segments[-1].end()].replace("$", " ")
    yield _inner(segments[-1])


def _first_segments(text: str, segments: "list[re.Match[str]]") -> Iterator[str]:
    last = 0
    while last + 1 < len(segments) and _JOINS.fullmatch(
        text[segments[last].end() : segments[last + 1].start()]
    ):
        last += 1
    yield text[: segments[last].end()].replace("$", " ")


def _inner(segment: "re.Match[str]") -> str:
    return next(group for group in segment.groups() if group is not None)


def _plain_starts(text: str) -> Iterator[str]:
    """What the text begins with that looks like mathematics, from long to short."""
    if match := _PLAIN.search(text):
        yield from _shortened(match.group())


def _plain_ends(text: str) -> Iterator[str]:
    """The last of what looks like mathematics, the last one first."""
    found = [match.group() for match in _PLAIN.finditer(text)]
    for one in reversed(found[-MAX_TRIED:]):
        yield from _shortened(one)


def _shortened(text: str) -> Iterator[str]:
    """The text, then without what trails: a word's first letter, an open bracket, a sign."""
    yield text
    if "=" in text:
        yield text.rpartition("=")[2]
    trimmed = text
    for _ in range(4):
        shorter = re.sub(r"(?:[\s.,+\-−*/^({=<>]+|\s[a-zA-Z])$", "", trimmed)
        if shorter == trimmed or not shorter.strip():
            return
        trimmed = shorter
        yield trimmed


def is_number(answer: Answer) -> bool:
    """Whether an answer is a number."""
    return isinstance(answer, Value) and not answer.expression.free_symbols
