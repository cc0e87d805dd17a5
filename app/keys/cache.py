"""Keys that were looked up lately, in this process: a request with a known key asks no database.

A key that is revoked, and the first key of all, take effect within ``KNOWN_SECONDS`` + ``ASKING_SECONDS``.
"""

import time
from dataclasses import dataclass

from app.core.quick_reads import QuickReads
from app.keys import repository
from app.keys.repository import Caller

KNOWN_SECONDS = 2.0
#: While one request asks the database again, the others go on with what is known, this long at most.
ASKING_SECONDS = 1.0
_MAX_ENTRIES = 10_000


@dataclass
class _Entry:
    caller: Caller
    until: float


class KeyCache:
    """Used on the event loop alone; no thread is waited for, so that busy ones keep nobody out."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._has_keys = False
        self._keyless_until = 0.0

    async def caller(self, reads: QuickReads, digest: str) -> Caller | None:
        """Whose key has this digest; None for one that is unknown or revoked."""
        entry, now = self._entries.get(digest), time.monotonic()
        if entry is not None:
            if now < entry.until:
                return entry.caller
            entry.until = now + ASKING_SECONDS
        return await self.caller_now(reads, digest)

    async def caller_now(self, reads: QuickReads, digest: str) -> Caller | None:
        """Likewise, by the database: what it says is known from here on."""
        now = time.monotonic()
        caller = await repository.caller_with(reads, digest)
        if caller is None:
            self._entries.pop(digest, None)
            return None
        if len(self._entries) >= _MAX_ENTRIES:
            self._entries.clear()
        self._entries[digest] = _Entry(caller, now + KNOWN_SECONDS)
        return caller

    async def keyless(self, reads: QuickReads) -> bool:
        """Whether no key was ever made."""
        now = time.monotonic()
        if self._has_keys or now < self._keyless_until:
            return not self._has_keys
        self._has_keys = await repository.any_key_quickly(reads)
        self._keyless_until = now + KNOWN_SECONDS
        return not self._has_keys

    async def is_first(self, reads: QuickReads, digest: str) -> bool:
        """Whether there is a key with this digest, so that the service is keyless no longer."""
        if await self.caller(reads, digest) is not None:
            self._has_keys = True
        return self._has_keys
