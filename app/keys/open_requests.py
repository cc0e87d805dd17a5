"""Requests that are being answered, by their key: an answer without end does not outlive its key."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import KeyRevoked
from app.core.quick_reads import QuickReads
from app.keys.cache import KeyCache

#: How often keys are looked up again, and how long an answer has to take for that.
TICK_SECONDS = 1.0
_log = logging.getLogger("app")


class _Open:
    """One request, answered by the task that it was made in."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task, self.since, self.revoked = task, time.monotonic(), False

    def end(self) -> None:
        self.revoked = True
        self.task.cancel()


class OpenRequests:
    """Used on the event loop alone."""

    def __init__(self, keys: KeyCache) -> None:
        self._keys = keys
        self._open: dict[str, set[_Open]] = {}
        self._ticker: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def noted(self, reads: QuickReads, digest: str) -> Iterator[None]:
        """Answer a request of the key with this digest within the block, which a revocation cancels.

        Raises KeyRevoked then.
        """
        one = _Open()
        others = self._open.setdefault(digest, set())
        others.add(one)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick(reads))
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else's cancellation goes on.
            if one.revoked and one.task.uncancel() == 0:
                raise KeyRevoked from None
            raise
        finally:
            others.discard(one)
            if not others:
                self._open.pop(digest, None)

    async def _tick(self, reads: QuickReads) -> None:
        while self._open:
            await asyncio.sleep(TICK_SECONDS)
            before = time.monotonic() - TICK_SECONDS
            lasting = [
                digest for digest, some in self._open.items() if any(one.since < before for one in some)
            ]
            try:
                for digest in lasting:
                    if await self._keys.caller_now(reads, digest) is None:
                        for one in self._open.get(digest, set()).copy():
                            one.end()
            except SQLAlchemyError as error:
                _log.warning(
                    "open requests continue, as their keys cannot be checked for revocation: %s", error
                )
