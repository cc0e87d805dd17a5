"""Folders of the store that this host has at hand, within a budget. Any number of processes share them.

``cache/NAME/DIGEST/`` has the folder under the last part of its name, its list of files, and two files that
are locked: ``.use``, shared by all who read the folder and exclusively by who removes it, and ``.fetch``, by
who writes to it. Locks are the kernel's: they go with the process, whatever ends it.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from app.core.store import traffic
from app.core.store.errors import StoreError
from app.core.store.remote import Remote
from app.core.store.trees import Reference, Tree
from trainer.system.files import remove_at_once

#: What was used so recently stays even without a lock: who reads small files takes none.
RECENT_SECONDS = 600.0
_USE, _FETCH, _TREE = ".use", ".fetch", ".tree.json"


class Cache:
    """The folders under ``root``; beyond ``most_bytes`` (0: any) those that were not used for longest go."""

    def __init__(self, root: Path, store: Remote, most_bytes: int):
        self._root, self._store, self._most = root, store, most_bytes

    def folder(self, reference: Reference) -> Path:
        """Where the folder lies, or would."""
        return self._entry(reference) / reference.name.rpartition("/")[2]

    @contextlib.contextmanager
    def pinned(self, reference: Reference) -> Iterator[None]:
        """Within the block the folder is not evicted, by any process of this host."""
        with self._locked(self._entry(reference) / _USE, fcntl.LOCK_SH):
            yield

    def fetch(self, reference: Reference, wanted: Callable[[str], bool] = lambda _: True) -> Path:
        """The folder with at least its files that are ``wanted`` by name, each verified.

        Of several who ask at once, threads or processes, one fetches. Raises StoreError, and OSError where
        the disk has no room.
        """
        folder = self.folder(reference)
        with self.pinned(reference):
            here = (tree := self._tree_here(reference)) is not None and not _missing(tree, folder, wanted)
            traffic.looked_up(hit=here)
            if here:
                return folder
            with self._locked(self._entry(reference) / _FETCH, fcntl.LOCK_EX):
                tree = self._tree(reference)
                missing = _missing(tree, folder, wanted)
                self._make_room(sum(tree.files[name].bytes for name in missing))
                for name in missing:
                    one = tree.files[name]
                    self._store.fetch(
                        reference.object_path(name), folder / name, size=one.bytes, sha256=one.sha256
                    )
        return folder

    def adopt(self, reference: Reference, tree: Tree, source: Path) -> None:
        """Have what this host has just stored, without another copy where the file system has links."""
        folder = self.folder(reference)
        with self.pinned(reference), self._locked(self._entry(reference) / _FETCH, fcntl.LOCK_EX):
            (self._entry(reference) / _TREE).write_bytes(tree.written())
            for name in _missing(tree, folder, lambda _: True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source / name, folder / name)
                except OSError:
                    return  # of another file system: it is fetched when somebody wants it
        self._make_room(0)

    def drop(self, reference: Reference) -> bool:
        """Remove the folder unless somebody uses it; whether it is gone."""
        entry = self._entry(reference)
        if not entry.is_dir():
            return True
        gone = self._root / f".gone-{uuid4().hex}"
        with contextlib.suppress(BlockingIOError), self._locked(entry / _USE, fcntl.LOCK_EX | fcntl.LOCK_NB):
            # Who comes now begins anew.
            remove_at_once(entry, gone)
        return not entry.is_dir()

    def drop_below(self, name: str) -> None:
        """Remove the folders whose names are ``name``, or begin with it, unless somebody uses them."""
        for marker in list((self._root / name).rglob(_USE)):
            self.drop(self._at(marker.parent))

    def entries(self) -> list[tuple[float, int, Reference]]:
        """What is here, the longest unused first: when it was used, its bytes, and what it is."""
        found = []
        for marker in list(self._root.rglob(_USE)):
            entry = marker.parent
            if entry.relative_to(self._root).parts[0].startswith("."):
                continue  # what is being removed
            reference = self._at(entry)
            with contextlib.suppress(OSError):
                size = sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
                found.append((marker.stat().st_mtime, size, reference))
        return sorted(found, key=lambda one: one[:2])

    def use(self) -> dict[str, int | None]:
        """How many bytes are here, of how many at most; None: any."""
        return {"bytes": sum(entry[1] for entry in self.entries()), "limit_bytes": self._most or None}

    def _at(self, entry: Path) -> Reference:
        return Reference(entry.parent.relative_to(self._root).as_posix(), entry.name)

    def _make_room(self, size: int) -> None:
        if not self._most:
            return
        entries = self.entries()
        used = sum(entry[1] for entry in entries)
        for last_used, its_size, reference in entries:
            if used + size <= self._most:
                return
            if time.time() - last_used > RECENT_SECONDS and self.drop(reference):
                used -= its_size
                traffic.evicted(its_size)

    def _tree_here(self, reference: Reference) -> Tree | None:
        with contextlib.suppress(OSError, StoreError, ValueError):
            return Tree.read((self._entry(reference) / _TREE).read_bytes(), reference)
        return None

    def _tree(self, reference: Reference) -> Tree:
        if (tree := self._tree_here(reference)) is not None:
            return tree
        content = self._store.get_bytes(reference.tree_path)
        tree = Tree.read(content, reference)
        (self._entry(reference) / _TREE).write_bytes(content)
        return tree

    def _entry(self, reference: Reference) -> Path:
        return self._root / reference.name / reference.digest

    @contextlib.contextmanager
    def _locked(self, path: Path, how: int) -> Iterator[None]:
        """Hold a lock. Others may have removed it with its folder meanwhile: then a new one."""
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            except (FileNotFoundError, FileExistsError):
                continue  # its folder is being removed
            try:
                fcntl.flock(descriptor, how)
                if _is_at(descriptor, path):
                    if how == fcntl.LOCK_SH:
                        os.utime(descriptor)
                    yield
                    return
            finally:
                os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _missing(tree: Tree, folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Names of the files that are not there: one is put in place when it is whole."""
    found = []
    for name, content in tree.files.items():
        path = folder / name
        if wanted(name) and not (path.is_file() and path.stat().st_size == content.bytes):
            found.append(name)
    return found
