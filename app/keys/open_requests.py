"""Requests that are being answered, by what let them in: an answer without end does not outlive it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import AccessEnded, KeyRevoked, SignedOut
from app.core.quick_reads import QuickReads
from app.keys.cache import KeyCache
from app.keys.sessions import is_signed_in

#: How often keys and sign-ins are looked up again, and how long an answer has to take for that.
TICK_SECONDS = 1.0
_log = logging.getLogger("app")


class LetIn(NamedTuple):
    """What let a request in: a key or, of a browser, a sign-in, by its digest."""

    digest: str
    is_sign_in: bool = False

    def ended(self) -> AccessEnded:
        return SignedOut() if self.is_sign_in else KeyRevoked()


class _Open:
    """One request, answered by the task that it was made in."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task, self.since, self.is_over = task, time.monotonic(), False

    def end(self) -> None:
        self.is_over = True
        self.task.cancel()


class OpenRequests:
    """Used on the event loop alone."""

    def __init__(self, keys: KeyCache) -> None:
        self._keys = keys
        self._open: dict[LetIn, set[_Open]] = {}
        self._ticker: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def noted(self, reads: QuickReads, by: LetIn) -> Iterator[None]:
        """Answer a request within the block, which a revocation, or a sign-out, cancels.

        Raises AccessEnded then.
        """
        one = _Open()
        others = self._open.setdefault(by, set())
        others.add(one)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick(reads))
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else's cancellation goes on.
            if one.is_over and one.task.uncancel() == 0:
                raise by.ended() from None
            raise
        finally:
            others.discard(one)
            if not others:
                self._open.pop(by, None)

    async def _tick(self, reads: QuickReads) -> None:
        while self._open:
            await asyncio.sleep(TICK_SECONDS)
            before = time.monotonic() - TICK_SECONDS
            lasting = [by for by, some in self._open.items() if any(one.since < before for one in some)]
            try:
                for by in lasting:
                    if not await self._holds(reads, by):
                        for one in self._open.get(by, set()).copy():
                            one.end()
            except SQLAlchemyError as error:
                _log.warning(
                    "open requests continue, as their keys cannot be checked for revocation: %s", error
                )

    async def _holds(self, reads: QuickReads, by: LetIn) -> bool:
        if by.is_sign_in:
            return await is_signed_in(reads, by.digest)
        return await self._keys.caller_now(reads, by.digest) is not None
