"""Grading for clients that wait: a few at a time in a process, no project all of them, none for nobody."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.core.errors import TooManyRequests
from app.core.shares import Shares

#: At a time, each of which may start processes and wait for others; and of one project, of which more wait.
RUNS = 5
PROJECT_RUNS = 4
PROJECT_WAITING = 16
WAIT_SECONDS = 10.0

T = TypeVar("T")
#: Raises Abandoned when nobody waits for the result any more; grading asks it every second.
Check = Callable[[], None]


class Abandoned(Exception):
    """The client left."""


class Lane:
    """Used on the event loop alone; the work is done in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RUNS, thread_name_prefix="grading")
        self._free = asyncio.Semaphore(RUNS)
        self._shares = Shares("graders that run", PROJECT_RUNS, PROJECT_WAITING)

    async def run(self, project: str, work: Callable[[Check], T]) -> T:
        """What ``work`` returns. Cancelling this has ``work`` end soon. Raises TooManyRequests when busy."""
        async with self._shares.of(project, WAIT_SECONDS):
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._free.acquire()
            except TimeoutError:
                raise TooManyRequests(
                    f"{RUNS} graders are already running; try again in a few seconds.",
                    headers={"retry-after": "5"},
                ) from None
            left = threading.Event()

            def check() -> None:
                if left.is_set():
                    raise Abandoned

            working = asyncio.get_running_loop().run_in_executor(self._threads, work, check)
            working.add_done_callback(self._done)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                left.set()
                raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, working: "asyncio.Future[T]") -> None:
        # Only now: what was abandoned takes its place until it has ended.
        self._free.release()
        if not working.cancelled():
            working.exception()
