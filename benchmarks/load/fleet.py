"""A fleet on one host: trainers that only tell of steps, and workers whose real code relays what they tell.

The trainers are one process. Each second it appends to every run's ``events-1.jsonl`` what a trainer writes
in a step: the lines of phases where a step has them, and then its rollouts and metrics. The lines are made
once, by the trainer's own classes, and get the step and the time of the moment. A worker is a process with a
supervisor a job, as ``worker.jobs.supervisor`` runs it, whose trainer is elsewhere.
"""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fixtures.long_run import metric_names
from trainer.spec.events import Event, Phase, RolloutRecord, Rollouts, Started, StepMetrics
from trainer.spec.modes import Mode

#: A step's phases, as parts of it that have gone by, and what is told at its end.
PHASES = {"sample": 0.0, "score": 0.45, "update": 0.5, "sync": 0.95}
#: Different steps; beyond them the texts and values repeat.
_KINDS = 4
_STEP, _TIME = 987654321, 1234567890.125
#: As long as it may take until every process has imported everything and holds its jobs.
_START_SECONDS = 300.0


@dataclass(frozen=True)
class Shape:
    """What a step tells of."""

    metrics: int = 60
    rollouts: int = 64
    tokens: int = 32
    total_steps: int = 1_000_000


@dataclass
class Fleet:
    """What runs: process ids, and for each of the jobs how many steps its trainer has told of."""

    jobs: list[str]
    workers: list[int]
    trainers: int
    steps: Any


@contextlib.contextmanager
def fleet(jobs: Sequence[str], runs: Path, shape: Shape, workers: int) -> Iterator[Fleet]:
    """``workers`` processes that hold the queued ``jobs``, and trainers that do a step a second.

    They do so from when all are there until the block ends.
    """
    context = multiprocessing.get_context("spawn")
    over, ready = context.Event(), context.Barrier(workers + 2)
    told = context.Array("l", len(jobs), lock=False)
    for job in jobs:
        (runs / job).mkdir(parents=True)
    processes = [
        context.Process(target=_work, args=(len(jobs[number::workers]), f"worker-{number}", ready, over))
        for number in range(workers)
    ]
    trainers = context.Process(target=_train, args=([runs / job for job in jobs], shape, told, ready, over))
    for process in (*processes, trainers):
        process.start()
    try:
        ready.wait(_START_SECONDS)
        yield Fleet(list(jobs), [process.pid or 0 for process in processes], trainers.pid or 0, told)
    finally:
        over.set()
        for process in (*processes, trainers):
            process.join(30)
            if process.is_alive():
                process.terminate()


def lines(shape: Shape, kind: int) -> tuple[list[bytes], bytes]:
    """A step's lines, with the marks of its number and time: those of its phases, and those of its end."""
    generator = np.random.default_rng(kind)
    phases = [_line(Phase(step=_STEP, phase=name, time=_TIME)) for name in PHASES]
    values = dict(zip(metric_names(shape.metrics), generator.random(shape.metrics).tolist(), strict=True))
    end = (
        Rollouts(step=_STEP, rollouts=list(_records(shape, generator)), time=_TIME),
        StepMetrics(step=_STEP, total_steps=shape.total_steps, values=values, time=_TIME),
    )
    return phases, b"".join(map(_line, end))


def at(line: bytes, step: int, now: float) -> bytes:
    """The lines of a step at a moment."""
    return line.replace(b"%d" % _STEP, b"%d" % step).replace(repr(_TIME).encode(), repr(now).encode())


def _line(event: Event) -> bytes:
    return event.model_dump_json().encode() + b"\n"


def _records(shape: Shape, generator: np.random.Generator) -> Iterator[RolloutRecord]:
    """As of groups of eight, half in each mode."""
    words = [f"{chr(97 + n % 26)}{chr(97 + n * 7 % 26)}{n % 89} " for n in range(4096)]
    for number in range(shape.rollouts):
        texts = [words[place] for place in generator.integers(0, len(words), shape.tokens)]
        values = generator.random((2, shape.tokens)).round(5)
        yield RolloutRecord(
            group=number // 8,
            index=number % 8,
            item=int(generator.integers(0, 20_000)),
            mode=Mode.NORMAL if number % 8 < 4 else Mode.HIGH_ENTROPY,
            prompt="user: " + "".join(words[place] for place in generator.integers(0, len(words), 40)),
            response="".join(texts),
            reward=float(number % 2),
            scores={"exact": float(number % 2)},
            tokens=shape.tokens,
            truncated=False,
            logprobs=(-values[0]).tolist(),
            entropies=values[1].tolist(),
            token_texts=texts,
        )


def _train(folders: list[Path], shape: Shape, told: Any, ready: Any, over: Any) -> None:
    """Each run a step a second, all of them spread over the second."""
    kinds = [lines(shape, kind) for kind in range(_KINDS)]
    files = [(folder / "events-1.jsonl").open("ab", buffering=0) for folder in folders]
    started = Started(step=0, total_steps=shape.total_steps, parameters=7, device="cpu")
    for file in files:
        file.write(_line(started))
    # Within a second: which run says what; first of all that the step before is over.
    moments: list[tuple[float, int, int]] = sorted(
        ((run / len(files) + part) % 1.0, run, said)
        for run in range(len(files))
        for said, part in enumerate((1.0, *PHASES.values()))
    )
    steps = [0] * len(files)
    ready.wait(_START_SECONDS)
    began = time.monotonic()
    for second in range(1_000_000):
        for moment, run, said in moments:
            if (early := began + second + moment - time.monotonic()) > 0 and over.wait(early):
                return
            phases, end = kinds[(run + steps[run]) % _KINDS]
            files[run].write(at(phases[said - 1] if said else end, steps[run] + 1, time.time()))
            if not said:
                steps[run] += 1
                told[run] = steps[run]
        if over.is_set():
            return


def _work(jobs: int, owner: str, ready: Any, over: Any) -> None:
    """A supervisor a job, from its claim to its trainer's end."""
    from worker.jobs import holding
    from worker.jobs.supervisor import Supervisor
    from worker.lease import Claim
    from worker.shutdown import Shutdown

    claims: list[Claim] = []
    while len(claims) < jobs:
        # None where others have all that wait locked just now.
        claims += [claim for claim in (holding.claim_next(owner),) if claim is not None]
    ready.wait(_START_SECONDS)
    threads = []
    for claim in claims:
        supervisor = Supervisor(claim, (0,), Shutdown())
        threads.append(threading.Thread(target=_supervise, args=(supervisor, claim, over), daemon=True))
        threads[-1].start()
    over.wait()


def _supervise(supervisor: Any, claim: Any, over: Any) -> None:
    from worker.jobs.launcher import Trainer
    from worker.jobs.relay import Relay

    class Elsewhere(Trainer):
        """Its process is the one of all of them."""

        def __init__(self) -> None:
            pass

        @property
        def running(self) -> bool:
            return not over.is_set()

    relay = Relay(claim, supervisor._run_dir, supervisor._uploads)
    supervisor._watch(Elsewhere(), relay)
