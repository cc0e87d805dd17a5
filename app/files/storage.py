"""The bytes of files, under ``files/<id>``: complete and on disk before any row speaks of them."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.core.ids import new_file_id
from app.core.settings import get_settings
from trainer.system.files import put_in_place, sync

_CHUNK = 1 << 20
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class StoredFile:
    """Bytes that are in storage for good, waiting for their row."""

    id: str
    bytes: int
    sha256: str


class Writing:
    """A file on its way into storage: written beside it, then :meth:`keep` or :meth:`discard`."""

    def __init__(self) -> None:
        folder = _incoming()
        folder.mkdir(parents=True, exist_ok=True)
        self.id = new_file_id()
        self.size = 0
        self.path = folder / self.id
        self._hash = hashlib.sha256()
        self._file: BinaryIO = self.path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> None:
        """All bytes are written: bring them to the disk. ``path`` may be read from here on."""
        self._file.close()
        sync(self.path)

    def keep(self) -> StoredFile:
        """Move the finished file to its place, durably."""
        put_in_place(self.path, path_of(self.id))
        return StoredFile(self.id, self.size, self._hash.hexdigest())

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def path_of(file_id: str) -> Path:
    """Where the bytes of a file lie."""
    return get_settings().files_dir / file_id


def store(content: bytes) -> StoredFile:
    """Put bytes that the service made itself into storage."""
    writing = Writing()
    try:
        writing.write(content)
        writing.finish()
        return writing.keep()
    except BaseException:
        writing.discard()
        raise


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data


def remove(file_id: str) -> None:
    """Remove the bytes of a file whose row is gone."""
    path_of(file_id).unlink(missing_ok=True)


def remove_stale_uploads() -> None:
    """Remove what uploads left behind that were cut off by a crash."""
    folder = _incoming()
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mtime < time.time() - _STALE_SECONDS:
            path.unlink(missing_ok=True)


def _incoming() -> Path:
    return get_settings().files_dir / "incoming"
