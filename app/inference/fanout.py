"""Several samples at once, merged in the order in which their pieces come."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from app.core.errors import ApiError
from app.core.streaming import cancel
from app.inference.errors import EngineFailed
from app.inference.upstream import Event, Finish

_log = logging.getLogger("app")

Indexed = tuple[int, Event]


class Fanout:
    """Runs samples side by side; ``close`` cancels what is still running. A single one runs as it is read."""

    def __init__(self, samples: list[AsyncIterator[Event]]):
        self._queue: asyncio.Queue[Indexed | Exception] = asyncio.Queue()
        self._left = len(samples)
        self._single = samples[0] if len(samples) == 1 else None
        several = enumerate(samples) if self._single is None else ()
        self._tasks = [asyncio.create_task(self._run(index, one)) for index, one in several]

    async def next(self) -> Indexed | None:
        """The next event and the index of its sample; None after the last. Raises a sample's error."""
        if self._single is not None:
            try:
                event = await anext(self._single, None)
            except ApiError:
                raise
            except Exception as error:
                raise _failed() from error
            return None if event is None else (0, event)
        if self._left == 0:
            return None
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        if isinstance(item[1], Finish):
            self._left -= 1
        return item

    @property
    def waiting(self) -> bool:
        """Whether the next event is here already."""
        return not self._queue.empty()

    async def close(self) -> None:
        if isinstance(self._single, AsyncGenerator):
            await self._single.aclose()
        await cancel(*self._tasks)

    async def _run(self, index: int, sample: AsyncIterator[Event]) -> None:
        assert isinstance(sample, AsyncGenerator)
        try:
            async with aclosing(sample) as events:
                async for event in events:
                    self._queue.put_nowait((index, event))
        except ApiError as error:
            self._queue.put_nowait(error)
        except Exception:
            self._queue.put_nowait(_failed())


def _failed() -> EngineFailed:
    """What nobody foresaw; the trace is in the log alone."""
    _log.exception("a sample failed")
    return EngineFailed("The gateway failed on this request.")
