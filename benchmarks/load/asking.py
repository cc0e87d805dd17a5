"""Somebody else, in a process of their own, who does one thing over and over while something goes on."""

import contextlib
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

#: Between two times.
PAUSE = 0.02


@dataclass
class Waits:
    """How long each time took, in ms; there when the block is over."""

    times: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.times:
            return "not once"
        worst, median = max(self.times), statistics.median(self.times)
        return f"{median:.0f} ms, of {len(self.times)} the worst {worst:.0f} ms"


@contextlib.contextmanager
def asking(url: str) -> Iterator[Waits]:
    """A request for ``url``."""
    with _repeated(_ask, url) as waits:
        yield waits


@contextlib.contextmanager
def telling(job_id: str) -> Iterator[Waits]:
    """An event of a running job and a renewed lease, as a worker of any release writes them."""
    with _repeated(_tell, job_id) as waits:
        yield waits


@contextlib.contextmanager
def _repeated(work: Callable[..., None], *arguments: Any) -> Iterator[Waits]:
    context = multiprocessing.get_context("spawn")
    ready, over, times = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=work, args=(*arguments, ready, over, times))
    process.start()
    waits = Waits()
    try:
        ready.wait(60)
        yield waits
    finally:
        over.set()
        waits.times = times.get(timeout=600)
        process.join()


def _ask(url: str, ready: Any, over: Any, times: Any) -> None:
    import httpx

    with httpx.Client(timeout=300) as client:
        times.put(_until(over, ready, lambda: client.get(url).raise_for_status()))


def _tell(job_id: str, ready: Any, over: Any, times: Any) -> None:
    from sqlalchemy import text

    from app.core.db import write_session

    renewed = text("UPDATE jobs SET lease_expires_at = :until, step = step + 1 WHERE id = :job")
    event = text(
        "INSERT INTO job_events (id, job_id, created_at, level, type, message) "
        "VALUES (:id, :job, :now, 'info', 'message', 'meanwhile')"
    )

    def tell() -> None:
        now = time.time()
        with write_session() as session:
            session.execute(renewed, {"until": now + 1e6, "job": job_id})
            session.execute(event, {"id": uuid4().hex, "job": job_id, "now": now})

    times.put(_until(over, ready, tell))


def _until(over: Any, ready: Any, work: Callable[[], object]) -> list[float]:
    work()
    # Else the 150 ms that the asker takes now and then to collect its own garbage count as a wait.
    gc.collect()
    gc.freeze()
    ready.set()
    found = []
    while not over.wait(PAUSE):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return found
