"""When keys were last used: noted in memory by each request, written down now and then."""

import asyncio
import logging
import time

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import write_session
from app.keys import repository

#: A key that asks all the time costs a row's change in so many seconds.
WRITE_SECONDS = 10.0
_log = logging.getLogger("app")


class Uses:
    """Of the keys that one API process was asked with; used on its event loop alone."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._any = asyncio.Event()

    def note(self, key_id: str) -> None:
        """A request came with this key."""
        self._used[key_id] = time.time()
        self._any.set()

    async def write_for_ever(self) -> None:
        """Until cancelled; what is noted then, :meth:`write` writes."""
        while True:
            await self._any.wait()
            await self.write()
            await asyncio.sleep(WRITE_SECONDS)

    async def write(self) -> None:
        """Write down what was noted, unless the database does not take it: the next use is noted anew."""
        used, self._used = self._used, {}
        self._any.clear()
        if used:
            try:
                await run_in_threadpool(_write, used)
            except SQLAlchemyError as error:
                _log.warning("the last use of keys cannot be recorded: %s", error)


def _write(used: dict[str, float]) -> None:
    with write_session() as session:
        repository.note_use(session, used)
