"""One trial: jobs come in, faults happen at random instants, all heals, and the invariants are checked.

All that is random follows from the seed; what the operating system does in between does not, so a seed that
failed may have to be run a few times.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from sqlalchemy import select

from app.db import read_session
from app.tables import JobAttempt
from tests.chaos import faults, invariants
from tests.chaos.system import System
from tests.chaos.workload import Client, Workload

SETTLE_SECONDS = 90.0


@dataclass(frozen=True)
class Trial:
    """What a trial was and how it went."""

    pair: str
    seed: int
    faults: list[str]
    jobs: int
    attempts: int
    ends: dict[str, int]
    """Of the attempts, by outcome and cause: what the faults did."""
    seconds: float
    trainer: str = "scripted"


def run_trial(system: System, seed: int, *, number: int | None = None, jobs: int = 4) -> Trial:
    """A trial with the scripted trainer; raises AssertionError. ``number`` chooses the kind of faults."""
    rng = Random(seed)
    names = faults.draw(system, rng, seed if number is None else number)
    plan = {
        "step_seconds": rng.uniform(0.02, 0.12),
        "checkpoint_every": rng.randint(1, 4),
        "repeat_events": rng.random() < 0.3,
        "child": rng.random() < 0.2,
    }
    system.script.write_text(json.dumps({"default": plan}))
    began = time.monotonic()
    label = f"{system.mark}-{seed}-{time.time_ns()}"
    workload = Workload(Client(system, Random(seed + 1)), Random(seed + 2), label, jobs, (10, 25))
    workload.start()
    _strike(system, rng, names)
    workload.join()
    heal(system)
    if workload.error is not None:
        raise workload.error
    workload.settle(SETTLE_SECONDS)
    invariants.check(system, workload.sent)
    ends = _ends(system, [sent.id for sent in workload.sent])
    seconds = round(time.monotonic() - began, 1)
    return Trial(system.pair, seed, names, len(workload.sent), sum(ends.values()), ends, seconds)


def _ends(system: System, jobs: list[str]) -> dict[str, int]:
    with read_session(system.database) as session:
        rows = session.execute(
            select(JobAttempt.outcome, JobAttempt.cause).where(JobAttempt.job_id.in_(jobs))
        )
        return dict(Counter(f"{outcome}: {cause}" for outcome, cause in rows))


def _strike(system: System, rng: Random, names: list[str]) -> None:
    """The faults, each at its own instant and so perhaps at the same time."""
    errors: list[BaseException] = []

    def strike(name: str, after: float, own: Random) -> None:
        time.sleep(after)
        try:
            faults.FAULTS[name](system, own)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=strike, args=(name, rng.uniform(0.2, 3.0), Random(rng.random())), name=name)
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def heal(system: System) -> None:
    """Every component runs again: what one fault started, another one may have killed."""
    for name in system.names:
        if (pid := system.pid(name)) is not None:
            os.kill(pid, signal.SIGCONT)
    system.start()
    system.wait_until_up()
