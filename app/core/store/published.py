"""Which base models lie in the store: ``published/NAME`` names the folder of each.

Requests ask for all of them by name, so that this process keeps what it found for some seconds. A store that
does not answer has what it had.
"""

import logging
import threading
import time
from dataclasses import dataclass
from functools import lru_cache

from app.core.store.errors import NotStored, StoreError
from app.core.store.remote import QUICK, Remote, remote
from app.core.store.trees import Reference, Tree

#: How old what is known may be.
SECONDS = 10.0
_FOLDER = "published"
_log = logging.getLogger("app")


@dataclass(frozen=True)
class Published:
    """A model in the store. ``at``: unix seconds; ``files``: their names; ``bytes``: of all together."""

    reference: Reference
    at: float
    files: frozenset[str]
    bytes: int


def pointer(name: str) -> str:
    """The object that names the folder of a base model."""
    return f"{_FOLDER}/{name}"


def published() -> dict[str, Published]:
    """The models in the store, by name."""
    store = remote(patience=QUICK)
    return {} if store is None else _listing(store).models()


def forget() -> None:
    """What was found: this process has just published something."""
    _listing.cache_clear()


class _Listing:
    def __init__(self, store: Remote):
        self._store, self._lock = store, threading.Lock()
        self._until = 0.0
        self._found: dict[str, Published] = {}

    def models(self) -> dict[str, Published]:
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._found = self._look()
                except StoreError as error:
                    _log.warning("the list of base models in the store could not be refreshed: %s", error)
                self._until = time.monotonic() + SECONDS
            return self._found

    def _look(self) -> dict[str, Published]:
        found = dict[str, Published]()
        for one in self._store.list(_FOLDER):
            name, at = one.path.removeprefix(f"{_FOLDER}/"), one.modified.timestamp()
            known = self._found.get(name)
            if known is not None and known.at == at:
                found[name] = known
                continue
            try:
                reference = Reference.parse(self._store.get_bytes(one.path).decode())
                if reference is not None:
                    tree = Tree.read(self._store.get_bytes(reference.tree_path), reference)
                    size = sum(file.bytes for file in tree.files.values())
                    found[name] = Published(reference, at, frozenset(tree.files), size)
            except (NotStored, ValueError):
                _log.warning("%s in the store does not name a model", one.path)
        return found


@lru_cache
def _listing(store: Remote) -> _Listing:
    return _Listing(store)
