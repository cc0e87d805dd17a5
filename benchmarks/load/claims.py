"""Workers that claim: processes, as real ones are, and all at once."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.synchronize import Barrier
from typing import Any

from benchmarks.load.asking import Waits

#: Claims before the clock starts: psycopg prepares a statement the sixth time, and PostgreSQL keeps its plan
#: the sixth time after that.
_FIRST = 12


def claims(
    workers: int, each: int, meanwhile: Callable[[], AbstractContextManager[Waits]]
) -> tuple[int, float, Waits]:
    """``workers`` processes call ``claim_next`` ``each`` times: jobs they got, seconds, and waits.

    Seconds are from the first call to the last answer; ``meanwhile`` is entered when all have started.
    """
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(workers + 1), context.Queue()
    processes = [
        context.Process(target=_claim, args=(number, each, ready, answers)) for number in range(workers)
    ]
    for process in processes:
        process.start()
    ready.wait(600)
    with meanwhile() as waited:
        ready.wait(600)
        rows = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    found, began, ended = zip(*rows, strict=True)
    return sum(found), max(ended) - min(began), waited


def _claim(number: int, each: int, ready: Barrier, answers: Any) -> None:
    from sqlalchemy.exc import OperationalError

    from worker.jobs import holding

    def claim() -> bool:
        # SQLite's writers may wait too long for each other: a try without a claim.
        with contextlib.suppress(OperationalError):
            return holding.claim_next(f"worker-{number}") is not None
        return False

    # As a worker that has been running for a while: connected, its statements made and planned.
    for _ in range(_FIRST):
        claim()
    ready.wait(600)
    ready.wait(600)
    began = time.time()
    found = sum(claim() for _ in range(each))
    answers.put((found, began, time.time()))
