"""Where the specification of a run names what the service keeps; all else in it is the user's text."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from app.core.strict_json import JsonObject

#: What may be a place (``app.core.store.artefacts``).
_FIELDS = (
    ("model", "path"),
    ("training_data", "path"),
    ("validation_data", "path"),
    ("evaluation", "embedding_model"),
)


def places_of(spec: JsonObject) -> list[str]:
    """The places that a specification names."""
    return [part[key] for part, key in _parts(spec)]


def with_places(spec: JsonObject, new: Callable[[str], str]) -> JsonObject:
    """The specification with ``new`` of each place."""
    spec = deepcopy(spec)
    for part, key in _parts(spec):
        part[key] = new(part[key])
    return spec


def _parts(spec: JsonObject) -> Iterator[tuple[JsonObject, str]]:
    for field, key in _FIELDS:
        part: Any = spec.get(field)
        if isinstance(part, dict) and isinstance(part.get(key), str):  # pyright: ignore[reportUnknownMemberType]
            yield part, key  # pyright: ignore[reportUnknownVariableType]
