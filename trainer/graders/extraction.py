"""The part of a response that is its answer."""

import re

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_OPEN = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE = re.compile(r"</answer>", re.IGNORECASE)


def extract_answer(text: str, extract: str) -> str | None:
    """The part of ``text`` that is its answer, or None when it has none."""
    if extract == "last_number":
        found = NUMBER.findall(text)
        return found[-1].replace(",", "") if found else None
    if extract == "last_line":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else None
    if extract == "answer_tag":
        return _last_tag(text)
    return text.strip()


def _last_tag(text: str) -> str | None:
    """The last of the parts that ``<answer>(.*?)</answer>`` finds, in time that is linear in the text."""
    found, position = None, 0
    while (start := _OPEN.search(text, position)) and (end := _CLOSE.search(text, start.end())):
        found, position = text[start.end() : end.start()].strip(), end.end()
    return found
