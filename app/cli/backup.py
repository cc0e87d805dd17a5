"""``policysplit backup`` and ``restore``: the embedded service in one file, copied while it runs.

The database is copied last, by SQLite's own online backup, so whatever it speaks of has been copied before it
or is looked for again. In a run's folder the state comes before the events: a state that is resumed from is
never ahead of what the events tell. The queue is not copied: messages are made again from the rows. The keys
that open the database's secrets are copied: keep the file as you would keep them.
"""

import contextlib
import hashlib
import io
import json
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.markup import escape

from app.cli.console import say_error
from app.cli.datadir import DataDir
from app.cli.environment import settings_to_act_on, settings_with
from app.cli.errors import CliError
from app.cli.listing import JsonOption, say_done
from app.cli.relocation import DATABASE, LOCATION
from app.core.private import tighten
from app.core.settings import Settings
from app.core.strict_json import JsonObject
from trainer.system.files import atomic_file, atomic_folder

MANIFEST = "backup.json"
#: The parts of a data directory, in the order in which they are copied.
PARTS = ("models", "files", "runs", "secrets")
#: Times that files which came meanwhile are looked for.
ROUNDS = 5
DataDirOption = Annotated[Path | None, typer.Option(help="The data directory.")]


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write, such as policysplit-backup.tar.")],
    data_dir: DataDirOption = None,
    models: Annotated[bool, typer.Option(help="Also copy base models, which could be pulled again.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Copy the embedded service into one file, while it runs or not.

    With your own PostgreSQL, leave everything running: run pg_dump, then copy the data directory.
    """
    settings = _embedded(settings_to_act_on(data_dir))
    file = file.expanduser().resolve()
    if file.exists():
        raise CliError(f"{file} already exists: give another name")
    try:
        with atomic_file(file) as temporary, tarfile.open(temporary, "w") as archive:
            copy = _Copy(settings, archive)
            size = copy.run(PARTS if models else PARTS[1:])
    except OSError as error:
        raise CliError(f"the backup could not be written: {error}") from error
    for name in copy.lost:
        say_error(f"{name} is in the database but not in {settings.data_dir}, so it is not in the backup")
    elsewhere = f" What {settings.store} has is not in it." if settings.store else ""
    say_done(
        {"file": file, "bytes": size, "missing": copy.lost, "not_in_it": settings.store or None},
        as_json,
        f"{escape(str(file))}: {size:,} bytes.{escape(elsewhere)} Restore it with `policysplit restore`.",
    )


def restore(
    file: Annotated[Path, typer.Argument(help="An archive written by `policysplit backup`.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Make a data directory from a backup. Jobs that ran are resumed when the service is started on it."""
    directory = DataDir(settings_with(data_dir=data_dir).data_dir)
    if directory.path.exists() and any(directory.path.iterdir()):
        raise CliError(f"{directory.path} is not empty: give an empty --data-dir")
    try:
        with atomic_folder(directory.path) as temporary:
            with tarfile.open(file) as archive:
                archive.extractall(temporary, filter="data")
            tighten(temporary)  # the archive has modes of its own
            manifest = _checked(temporary)
            # Whoever serves it has its rows name the files where they are now.
            (temporary / LOCATION).write_text(manifest["data_dir"])
            (temporary / MANIFEST).unlink()
    except (OSError, tarfile.TarError) as error:
        raise CliError(f"{file} cannot be restored: {error}") from error
    made = manifest["created_at"]
    say_done(
        {"data_dir": directory.path, "as_at": made},
        as_json,
        f"{escape(str(directory.path))} is restored as of {time.ctime(made)}; start `policysplit serve`.",
    )


def _embedded(settings: Settings) -> Settings:
    if settings.database_url:
        raise CliError(
            "DATABASE_URL is set: back up that database with its own tools (pg_dump), then copy the data "
            "directory"
        )
    if not (settings.data_dir / DATABASE).is_file():
        raise CliError(f"{settings.data_dir} has no {DATABASE}: no service has run on it")
    return settings


class _Copy:
    """One archive on its way."""

    def __init__(self, settings: Settings, archive: tarfile.TarFile):
        self._root = settings.data_dir.resolve()
        # What is there is another's to copy.
        self._has_store = bool(settings.store)
        self._archive = archive
        self._hashes: dict[str, str] = {}
        self._size = 0
        self.lost: list[str] = []
        """What the database refers to but the data directory lacks."""

    def run(self, parts: tuple[str, ...]) -> int:
        """Copy everything; the number of bytes."""
        for last in (number == ROUNDS for number in range(1, ROUNDS + 1)):
            for part in parts:
                for path in _in_order(self._root / part):
                    self._add(path)
            with tempfile.TemporaryDirectory() as folder:
                snapshot = Path(folder) / DATABASE
                _copy_database(self._root / DATABASE, snapshot)
                self.lost = self._missing(snapshot)
                if last or not self.lost:
                    self._add(snapshot, DATABASE)
                    break
        told = {"created_at": time.time(), "data_dir": str(self._root), "sha256": self._hashes}
        content = json.dumps(told).encode()
        entry = tarfile.TarInfo(MANIFEST)
        entry.size = len(content)
        self._archive.addfile(entry, io.BytesIO(content))
        return self._size

    def _add(self, path: Path, name: str | None = None) -> None:
        """Copy a file unless it was; what is being appended to is copied as far as it had come."""
        name = name or path.relative_to(self._root).as_posix()
        if name in self._hashes:
            return
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            entry = self._archive.gettarinfo(arcname=name, fileobj=file)
            if not entry.isreg():
                return
            reader = _Hashing(file)
            self._archive.addfile(entry, reader)  # type: ignore[arg-type]
            self._hashes[name] = reader.sha256.hexdigest()
            self._size += entry.size

    def _missing(self, database: Path) -> list[str]:
        """What the database speaks of and the archive has not."""
        with contextlib.closing(sqlite3.connect(database)) as connection:
            ids = [] if self._has_store else connection.execute("SELECT id FROM files").fetchall()
            files = [f"files/{row[0]}" for row in ids]
            manifests = [
                f"{Path(row[0]).relative_to(self._root).as_posix()}/policysplit.json"
                for row in connection.execute("SELECT path FROM checkpoints")
                if Path(row[0]).is_relative_to(self._root)
            ]
            archives = [] if self._has_store else _archives(connection)
        have = {str(Path(name).parent) for name in self._hashes} | self._hashes.keys()
        return [name for name in (*files, *manifests, *archives) if name not in have]


def _archives(database: sqlite3.Connection) -> list[str]:
    """The folders of archived rollouts; a database that is not upgraded yet knows of none."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rollout_archives'").fetchone():
        return []
    rows = database.execute("SELECT job_id, number, digest FROM rollout_archives")
    return [f"runs/{job_id}/rollouts/part-{number}/{digest}" for job_id, number, digest in rows]


class _Hashing:
    """Reads a file and hashes what was read."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _in_order(folder: Path) -> Iterator[Path]:
    """Files below ``folder``, states before all else of their run; nothing that is half-written."""
    if not folder.is_dir():
        return
    found = [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    states = [path for path in found if "state" in path.relative_to(folder).parts[:-1]]
    first = set(states)
    for path in (*states, *(path for path in found if path not in first)):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path


def _copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as one,
        contextlib.closing(sqlite3.connect(target)) as other,
    ):
        one.backup(other)


def _checked(folder: Path) -> JsonObject:
    """The manifest of an extracted backup; raises CliError when a file is not what was copied."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(f"this is not a complete backup: its {MANIFEST} is missing or unreadable") from error
    for name, expected in manifest["sha256"].items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise CliError(f"{name} in the backup is damaged")
    return manifest
