"""Workers that claim: processes, as real ones are, and all at once."""

import contextlib
import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from typing import Any

#: Claims before the clock starts: psycopg prepares a statement the sixth time, and PostgreSQL keeps its plan
#: the sixth time after that.
_FIRST = 12


def claims(workers: int, each: int) -> tuple[int, float]:
    """``workers`` processes call ``claim_next`` ``each`` times: how many jobs they got, and the seconds.

    Seconds are from the first call to the last answer.
    """
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=_claim, args=(number, each, ready, answers)) for number in range(workers)
    ]
    for process in processes:
        process.start()
    rows = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    found, began, ended = zip(*rows, strict=True)
    return sum(found), max(ended) - min(began)


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
    began = time.time()
    found = sum(claim() for _ in range(each))
    answers.put((found, began, time.time()))
