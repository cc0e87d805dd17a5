"""Objects of one bucket and prefix: put, fetched in parts, listed, removed. The only user of ``obstore``.

Each request is tried again by the library, with waits that grow, for as long as :class:`Patience` says. Files
go up in parts of a multi-part upload, which either becomes the whole object or nothing, and come down in
ranges, of which those that arrived stay on the disk: what is cut off is gone on with.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.core.settings import Settings, get_settings
from app.core.store import traffic
from app.core.store.errors import Damaged, NotStored, StoreError, explained
from trainer.system.files import put_in_place

PART_BYTES = 16 << 20
#: Parts that are under way at a time.
PARALLEL = 4
#: By kind, the library's option for the address of a server of one's own, and the variables that have it.
_ENDPOINTS = {
    "s3": ("aws_endpoint", ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")),
    "gs": ("base_url", ("GOOGLE_BASE_URL",)),
    "az": ("azure_storage_endpoint", ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")),
}
#: S3 takes 10,000.
_MOST_PARTS = 9_000
_CHECKED = "policysplit-store"


@dataclass(frozen=True)
class Patience:
    """How long one request may take, and how long it is tried again, in seconds."""

    request: float = 60.0
    retries: int = 8
    in_all: float = 120.0


#: For who waits for an answer.
QUICK = Patience(request=3.0, retries=1, in_all=5.0)


@dataclass(frozen=True)
class Stored:
    """An object that is listed."""

    path: str
    bytes: int
    modified: datetime


class Remote:
    """A bucket, or a folder that all hosts mount. Raises StoreError and what is below it."""

    def __init__(self, url: str, patience: Patience | None = None):
        self.url = url
        self._patience = patience or Patience()
        self._store: Any = _open(url, self._patience)

    def put_bytes(self, path: str, content: bytes) -> None:
        """Write a small object."""
        import obstore

        with self._told(path, "put"):
            obstore.put(self._store, path, content, use_multipart=False)
        traffic.sent(len(content))

    def put_file(self, path: str, source: Path) -> None:
        """Write a file; it is there whole or not at all. Raises OSError where the file cannot be read."""
        import obstore

        size = source.stat().st_size
        if size <= PART_BYTES:
            self.put_bytes(path, source.read_bytes())
            return
        part = max(PART_BYTES, -(-size // _MOST_PARTS))
        with self._told(path, "put"):
            obstore.put(
                self._store, path, source, use_multipart=True, chunk_size=part, max_concurrency=PARALLEL
            )
        traffic.sent(size)

    def get_bytes(self, path: str) -> bytes:
        """Read a small object. Raises NotStored."""
        import obstore

        with self._told(path, "get"):
            content = bytes(obstore.get(self._store, path).bytes())
        traffic.got(len(content))
        return content

    def fetch(self, path: str, target: Path, *, size: int, sha256: str) -> None:
        """Read an object of ``size`` bytes to ``target``, which appears whole and verified or not at all.

        What an earlier try left beside it is gone on with. Raises Damaged where the hash differs, also of the
        whole object read anew.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        while True:
            resumed = partial.exists()
            self._fetch(path, partial, size)
            with partial.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == sha256:
                put_in_place(partial, target)
                return
            partial.unlink()
            if not resumed:
                raise Damaged(
                    f"{path} in the store {self.url} is damaged: its SHA-256 is {found}, but {sha256} was "
                    "written."
                )

    def _fetch(self, path: str, partial: Path, size: int) -> None:
        import obstore

        with partial.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            while (done := file.tell()) < size:
                starts = range(done, min(size, done + PARALLEL * PART_BYTES), PART_BYTES)
                lengths = [min(PART_BYTES, size - start) for start in starts]
                with self._told(path, "get"):
                    parts = obstore.get_ranges(
                        self._store, path, starts=list(starts), lengths=lengths, coalesce=0
                    )
                for part, length in zip(parts, lengths, strict=True):
                    if len(part) != length:
                        raise Damaged(f"{path} in the store {self.url} is shorter than what was written.")
                    traffic.got(length)
                    file.write(part)

    def has(self, path: str) -> bool:
        """Whether there is such an object."""
        import obstore

        try:
            with self._told(path, "head"):
                obstore.head(self._store, path)
        except NotStored:
            return False
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        """The objects below ``prefix``, a folder, in their order."""
        import obstore

        with self._told(f"{prefix}/", "list"):
            for some in obstore.list(self._store, prefix, chunk_size=1000):
                for one in some:
                    yield Stored(one["path"], one["size"], one["last_modified"])

    def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are gone already count as removed."""
        import obstore

        if paths:
            with self._told(paths[0], "delete"), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, list(paths))

    def signed(self, path: str, seconds: int) -> str | None:
        """An address from which anybody may read the object for so long; None where the store has none."""
        import obstore
        from obstore.store import LocalStore

        if isinstance(self._store, LocalStore):
            return None
        with self._told(path, "sign"):
            return obstore.sign(self._store, "GET", path, timedelta(seconds=seconds))

    def check(self) -> None:
        """Raise StoreError where the store cannot be reached or does not know us."""
        # S3 tells of a bucket that is not there, or of wrong keys, whatever it is asked.
        with contextlib.suppress(NotStored):
            self.get_bytes(_CHECKED)

    @contextlib.contextmanager
    def _told(self, what: str, operation: str) -> Iterator[None]:
        import obstore.exceptions as known

        with traffic.asked(operation):
            try:
                yield
            except StoreError:
                raise
            except (known.BaseError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of our own disk
                raise explained(error, self.url, what) from None


@lru_cache
def _of(url: str, patience: Patience | None) -> Remote:
    return Remote(url, patience)


def remote(settings: Settings | None = None, patience: Patience | None = None) -> Remote | None:
    """The store of the settings; None: hosts share the data directory itself."""
    url = (settings or get_settings()).store
    return _of(url, patience) if url else None


def _open(url: str, patience: Patience) -> Any:
    import obstore.store

    parts = urlsplit(url)
    if parts.scheme == "file":
        return obstore.store.LocalStore(prefix=parts.path, mkdir=True)
    option, variables = _ENDPOINTS[parts.scheme]
    endpoint = next((value for name in variables if (value := os.environ.get(name))), "")
    options: dict[str, Any] = {
        "timeout": timedelta(seconds=patience.request),
        "connect_timeout": timedelta(seconds=min(5.0, patience.request)),
        "allow_http": endpoint.startswith("http://"),
    }
    retries: Any = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.in_all),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=15),
            "base": 2,
        },
    }
    config: Any = {option: endpoint} if endpoint else None
    # Its overloads are of one kind of store each.
    opened: Any = obstore.store.from_url
    return opened(url, config=config, client_options=options, retry_config=retries)
