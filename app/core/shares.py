"""No project has everything: shares of what an API process has a limited number of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.errors import TooManyRequests


@dataclass
class _Project:
    free: asyncio.Semaphore
    waiting: int = 0
    users: int = 0


class Shares:
    """Up to ``most`` users at a time of each project, and ``waiting`` more that wait for their turn."""

    def __init__(self, what: str, most: int, waiting: int):
        self._what, self._most, self._waiting = what, most, waiting
        self._projects: dict[str, _Project] = {}

    @asynccontextmanager
    async def of(self, project: str, seconds: float) -> AsyncIterator[None]:
        """The project has one more within the block, for which it waits up to ``seconds``.

        Raises TooManyRequests, naming the bound.
        """
        one = self._projects.setdefault(project, _Project(asyncio.Semaphore(self._most)))
        if one.waiting >= self._waiting:
            raise self._too_many(f"{self._most} are being answered and {self._waiting} are waiting")
        one.users += 1
        one.waiting += 1
        acquired = False
        try:
            try:
                async with asyncio.timeout(seconds):
                    acquired = await one.free.acquire()
            except TimeoutError:
                raise self._too_many(f"{self._most} have been in progress for {seconds:g} s") from None
            finally:
                one.waiting -= 1
            yield
        finally:
            if acquired:
                one.free.release()
            one.users -= 1
            if not one.users:
                self._projects.pop(project, None)

    def _too_many(self, why: str) -> TooManyRequests:
        return TooManyRequests(
            f"This project has too many {self._what} at once: {why}. Try again in a few seconds.",
            headers={"retry-after": "5"},
        )
