"""The results of a study in one file: a run a line, as JSON, sorted by the runs' hashes.

Results are only added: under a lock, and the file is replaced whole, so that a reader finds the old one or
the new one at any instant, and a writer that is killed leaves what was there. Two machines' files are put
together by sorting their lines.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """Every result there is, in the order of hashes; none where there is no file."""
    for line in _lines(path):
        yield json.loads(line)


def add_result(result: dict[str, Any], path: Path) -> None:
    """Add a result; one of the same run stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = {_hash(line): line for line in _lines(path)}
        lines.setdefault(result["hash"], json.dumps(result, separators=(",", ":")) + "\n")
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            file.writelines(lines[name] for name in sorted(lines))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def _hash(line: str) -> str:
    return json.loads(line)["hash"]
