"""What requests use, in this process: added up in memory, written down every few seconds.

A request costs an addition. What was not written when the process is killed, five seconds of it at most, is
lost; at an orderly end nothing is.
"""

import asyncio
import logging
import time

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.accounting.counting import Amounts, Place, add, day_of
from app.core.db import write_session

WRITE_SECONDS = 5.0
_log = logging.getLogger("app")


class Meter:
    """Of one API process; used on its event loop alone."""

    def __init__(self) -> None:
        self._used: dict[Place, Amounts] = {}
        self._any = asyncio.Event()

    def answered(self, project: str, model: str, mode: str, prompt: int, completion: int) -> None:
        """A model has given an answer: tokens read and written."""
        place = Place(project, day_of(time.time()), model=model, mode=mode)
        self._note(place, Amounts(requests=1, input_tokens=prompt, output_tokens=completion))

    def graded(self, project: str, count: int) -> None:
        """So many responses were graded for a request."""
        self._note(Place(project, day_of(time.time())), Amounts(gradings=count))

    def _note(self, place: Place, amounts: Amounts) -> None:
        known = self._used.setdefault(place, Amounts())
        known += amounts
        self._any.set()

    async def write_for_ever(self) -> None:
        """Until cancelled; what is noted then, :meth:`write` writes."""
        while True:
            await self._any.wait()
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write down what was noted; where the database does not take it, the next time does."""
        used, self._used = self._used, {}
        self._any.clear()
        if used:
            try:
                await run_in_threadpool(_write, used)
            except SQLAlchemyError as error:
                _log.warning("usage cannot be recorded yet: %s", error)
                for place, amounts in used.items():
                    self._note(place, amounts)


def _write(used: dict[Place, Amounts]) -> None:
    with write_session() as session:
        # In one order, so that no two processes wait for each other.
        for place in sorted(used, key=lambda one: tuple(vars(one).values())):
            add(session, place, used[place])
