"""A data directory that was moved or copied: the rows of its own database name files by absolute paths."""

import contextlib
import json
import sqlite3
from pathlib import Path

from trainer.system.files import write_atomically

DATABASE = "policysplit.db"
#: Where the directory was when it was last served.
LOCATION = "location"


def relocate(folder: Path) -> Path | None:
    """Have the embedded database of ``folder`` name the files in it; where it was before, if elsewhere.

    Nothing happens where there is no such database. Nobody else may be using it.
    """
    database, location = folder / DATABASE, folder / LOCATION
    original = None
    if database.is_file():
        original = Path(location.read_text()) if location.is_file() else _by_checkpoints(database)
    if original is not None and original != folder:
        move_paths(database, original, folder)
    if original != folder:
        write_atomically(location, str(folder))
    return original if original != folder else None


def move_paths(database: Path, original: Path, folder: Path) -> None:
    """Name what is in ``folder`` where rows name the same in ``original``."""
    old, new = f"{original}/", f"{folder}/"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE checkpoints SET path = ? || substr(path, ?) WHERE substr(path, 1, ?) = ?",
            (new, len(old) + 1, len(old), old),
        )
        written = (json.dumps(old)[:-1], json.dumps(new)[:-1])
        for change in ("UPDATE jobs SET", "UPDATE estimates SET"):
            connection.execute(
                f"{change} run_spec = replace(run_spec, ?, ?) WHERE instr(run_spec, ?)",
                (*written, written[0]),
            )


def _by_checkpoints(database: Path) -> Path | None:
    """Where a directory was that does not say so, by the newest checkpoint in it: ``runs/JOB/…``."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        newest = connection.execute("SELECT path, job_id FROM checkpoints ORDER BY created_at DESC LIMIT 1")
        row = newest.fetchone()
    return None if row is None else Path(row[0].rpartition(f"/runs/{row[1]}/")[0])
