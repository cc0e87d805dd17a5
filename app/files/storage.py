"""The bytes of files, ``files/<id>``: complete, on disk or in the store, before any row speaks of them."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.core.ids import new_file_id
from app.core.settings import get_settings
from app.core.store.artefacts import cache_of, local, put, remove_below
from app.core.store.remote import remote
from app.core.store.trees import Content, Reference, Tree
from app.core.tables import File
from trainer.system.files import put_in_place, sync

_CHUNK = 1 << 20
_STALE_SECONDS = 24 * 3600
_SIGNED_SECONDS = 300


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
        """Bring the finished file to its place, durably. Raises StoreError."""
        stored = StoredFile(self.id, self.size, self._hash.hexdigest())
        if remote() is None:
            put_in_place(self.path, path_of(self.id))
        else:
            keep_in_store(stored, self.path.parent)
            self.path.unlink()
        return stored

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def path_of(file_id: str) -> Path:
    """Where the bytes of a file lie that hosts share by their data directory."""
    return get_settings().files_dir / file_id


def place_of(file: StoredFile | File) -> str:
    """Where its bytes are for all hosts (``app.core.store.artefacts``)."""
    return str(path_of(file.id)) if remote() is None else str(_in_store(file)[0])


def local_path(file: StoredFile | File) -> Path:
    """Where its bytes are on this host, fetched if need be. Raises StoreError."""
    mine = path_of(file.id)
    return mine if mine.is_file() else local(place_of(file))


def signed_url(file: File) -> str | None:
    """An address of the store's from which the bytes come for some minutes; None where there is none."""
    store = remote()
    return None if store is None else store.signed(_in_store(file)[0].object_path(file.id), _SIGNED_SECONDS)


def keep_in_store(file: StoredFile | File, folder: Path) -> None:
    """Have the bytes that lie in ``folder`` under the file's id in the store. Raises StoreError."""
    store = remote()
    assert store is not None
    reference, tree = _in_store(file)
    put(store, reference, tree, folder)
    cache_of(reference).adopt(reference, tree, folder)


def _in_store(file: StoredFile | File) -> tuple[Reference, Tree]:
    """A folder of one file, told from its row alone."""
    tree = Tree({file.id: Content(file.bytes, file.sha256)})
    return Reference(f"files/{file.id}", tree.digest, file.id), tree


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
    remove_below(f"files/{file_id}")


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
