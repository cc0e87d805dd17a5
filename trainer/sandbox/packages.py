"""Which installed packages can be imported inside a sandbox: those that are named, and what they require."""

import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

#: What a python grader may import besides the standard library, as far as it is installed.
OFFERED = (
    *("deepdiff", "jsonschema", "nltk", "numpy", "pandas", "pydantic", "pyyaml", "rapidfuzz", "regex"),
    *("rouge-score", "scikit-learn", "scipy", "sqlparse", "sympy"),
)

#: What they are imported as, where that is another name.
_IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn", "rouge-score": "rouge_score"}


@lru_cache
def offered() -> list[str]:
    """Of these, what is installed; as they are imported."""
    return sorted(_IMPORTED_AS.get(name, name) for name in OFFERED if _found(name) is not None)


_searching = threading.Lock()


def entries(names: tuple[str, ...]) -> dict[str, Path]:
    """Folders and files of these distributions, and of what they require, that are installed; by name."""
    with _searching:  # once, not once in each thread that starts a sandbox
        return _entries(names)


@lru_cache
def _entries(names: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        if (one := _found(name)) is None:
            continue
        found |= _tops(one)
        waiting += _required(one.requires or ())
    return found


def _found(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _tops(one: Distribution) -> dict[str, Path]:
    # The list of an installed wheel, a file a line. ``files`` makes an object of each, which takes several
    # times as long and keeps the other threads of a service waiting.
    if record := one.read_text("RECORD"):
        first = {re.split("[/,]", line.lstrip('"'), maxsplit=1)[0] for line in record.splitlines() if line}
    else:
        first = {file.parts[0] for file in one.files or ()}
    tops = first - {"", "..", "/", "__pycache__"}
    return {top: Path(str(one.locate_file(top))).resolve() for top in sorted(tops)}


def _required(requirements: Iterable[str]) -> list[str]:
    """Names, without those of extras; other conditions do not matter: what is not installed is left out."""
    return [
        match.group()
        for one in requirements
        if "extra ==" not in one and (match := re.match(r"[A-Za-z0-9][\w.-]*", one))
    ]
