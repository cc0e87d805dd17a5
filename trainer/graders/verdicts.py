"""A judge model's verdict: asked for as JSON of a schema, read whatever way it was written down."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

V_co = TypeVar("V_co", covariant=True)

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
_MAX_OBJECTS = 200


class Wanted(Protocol[V_co]):
    """What a judge is asked for."""

    called: str
    """In a word, for messages."""

    def keys(self) -> Mapping[str, tuple[str, dict[str, object]]]:
        """By the key of a JSON object that has it: what belongs there in words, and as a schema."""
        ...

    def read(self, text: str) -> V_co:
        """The verdict of an answer. Raises ValueError that says what is missing or wrong."""
        ...


class Scores:
    """Numbers by name, each from ``low`` to ``high``."""

    called = "score"

    def __init__(self, names: Sequence[str], low: float, high: float):
        self._names, self._low, self._high = names, low, high

    def keys(self) -> Mapping[str, tuple[str, dict[str, object]]]:
        words = f"a number from {self._low:g} to {self._high:g}"
        schema: dict[str, object] = {"type": "number", "minimum": self._low, "maximum": self._high}
        return dict.fromkeys(self._names, (words, schema))

    def read(self, text: str) -> dict[str, float]:
        found = next(_objects(text, self._names), None)
        if found is None and len(self._names) == 1 and (bare := _number(text.strip())) is not None:
            found = {self._names[0]: bare}
        if found is None:
            raise ValueError(f"no JSON object with {', '.join(map(repr, self._names))}")
        return {name: self._one(name, found[name]) for name in self._names}

    def _one(self, name: str, value: object) -> float:
        number = _number(value)
        if number is None:
            raise ValueError(f"{name} is {value!r}, not a number")
        if not self._low <= number <= self._high:
            raise ValueError(f"{name} is {number:g}, not from {self._low:g} to {self._high:g}")
        return number


class OneOf:
    """One of several labels. Case counts where labels differ in nothing else."""

    called = "label"
    _KEY = "result"

    def __init__(self, labels: Sequence[str]):
        self._labels = labels

    def keys(self) -> Mapping[str, tuple[str, dict[str, object]]]:
        words = f"one of {json.dumps(list(self._labels), ensure_ascii=False)}"
        return {self._KEY: (words, {"type": "string", "enum": list(self._labels)})}

    def read(self, text: str) -> str:
        found = next(_objects(text, [self._KEY]), None)
        value = text if found is None else found[self._KEY]
        if isinstance(value, str):
            # Those that are asked without a schema may write the label alone, as a word or as a sentence.
            for said in (value, value.strip(), value.strip(" .'\"`*\n\t")):
                alike = [one for one in self._labels if one.casefold() == said.casefold()]
                if said in alike or len(alike) == 1:
                    return said if said in alike else alike[0]
        missing = f"no JSON object with {self._KEY!r}" if found is None else f"{self._KEY} is {value!r}"
        raise ValueError(f"{missing}; labels are: {', '.join(self._labels)[:300]}")


def _objects(text: str, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """JSON objects in a text that have all of the keys: the whole, what is in a fence, and the last that
    stand among other words."""
    return (one for one in _all_objects(text) if set(names) <= one.keys())


def _all_objects(text: str) -> Iterator[dict[str, object]]:
    for candidate in (text, *reversed(_FENCE.findall(text))):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
    decoder = json.JSONDecoder()
    position = len(text)
    for _ in range(_MAX_OBJECTS):
        position = text.rfind("{", 0, position)
        if position < 0:
            return
        try:
            value, _ = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if len(str(value)) < 50 else None
    except (ValueError, OverflowError):
        return None
