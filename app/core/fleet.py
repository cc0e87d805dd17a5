"""What the workers that run jobs have: how many GPUs each, and how many of them are free.

Where a worker has none, its slots stand in for them. Counted from the rows of workers and of the jobs that
they hold; the worker itself counts what its processes have (``worker.gpus``).
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, literal_column, select
from sqlalchemy.orm import Session

from app.core.job_status import HELD
from app.core.live_workers import live_training_workers
from app.core.tables import Job, TrainingWorker

_HELD = [status.value for status in HELD]


@dataclass(frozen=True)
class Block:
    """The GPUs of one worker, which a job that no cluster runs has to find together."""

    worker: TrainingWorker
    gpus: int
    """How many there are."""
    free: int
    """How many a job would find."""
    free_slots: int
    """How many jobs of one GPU would find a place."""

    @property
    def takes_jobs(self) -> bool:
        return not self.worker.draining

    @property
    def on_ray(self) -> bool:
        """Whether it takes jobs of a Ray cluster: it has one, which answers."""
        return self.worker.ray is not None and self.worker.ray["problem"] is None


def blocks(session: Session) -> list[Block]:
    """Those of the live workers."""
    workers = live_training_workers(session)
    held: dict[str | None, list[int]] = defaultdict(list)
    for owner, gpus in session.execute(select(Job.lease_owner, Job.held_gpus).where(Job.status.in_(_HELD))):
        held[owner].append(gpus)
    return [block(worker, held[worker.id]) for worker in workers]


def block(worker: TrainingWorker, held: Iterable[int]) -> Block:
    """That of a worker whose jobs have ``held`` GPUs each."""
    slots, gpus = worker.slots, len(worker.gpus) or worker.slots
    if slots >= gpus:  # a slot has one GPU, which it may share
        free_slots = max(0, slots - sum(held))
        return Block(worker, gpus, min(gpus, free_slots), free_slots)
    each = gpus // slots
    free_slots = max(0, slots - sum(-(-one // each) for one in held))
    return Block(worker, gpus, gpus if free_slots == slots else free_slots * each, free_slots)


def least(fleet: Iterable[Block]) -> int:
    """With how few GPUs of a worker jobs begin that one of those takes: 0 where one has a Ray cluster."""
    return 0 if any(one.on_ray for one in fleet) else 1


def large_waiting() -> tuple[ColumnElement[bool], ...]:
    """The conditions that a job of several GPUs waits; written out, as its index is."""
    status = Job.status == literal_column("'queued'")
    return status, Job.wanted_gpus > literal_column("1"), Job.cancel_requested.is_(False)


def keepers(session: Session) -> dict[str, str]:
    """The workers that keep what becomes free for a job that waits, and for which."""
    kept = select(Job.reserved_by, Job.id).where(*large_waiting(), Job.not_before <= time.time())
    return {owner: job_id for owner, job_id in session.execute(kept) if owner is not None}


def counted(number: int, workers: Sequence[TrainingWorker]) -> str:
    """``8 GPUs``; where no worker has any, ``8 slots``."""
    word = "slot" if workers and not any(worker.gpus for worker in workers) else "GPU"
    return f"{number} {word}{'' if number == 1 else 's'}"


def waits_for_cluster(fleet: Sequence[Block]) -> str:
    """What to say of a next job that runs on a Ray cluster and that none of those workers takes now."""
    clusters = [one.worker.ray for one in fleet if one.worker.ray is not None]
    if not clusters:
        return (
            "The next job waits for a Ray cluster, and no connected worker has one: start one with "
            "POLICYSPLIT_RAY_ADDRESS."
        )
    away = [(one["address"], one["problem"]) for one in clusters if one["problem"] is not None]
    if len(away) == len(clusters):
        told = (problem if address in problem else f"{address}: {problem}" for address, problem in away)
        return f"The next job waits for a Ray cluster: {'; '.join(dict.fromkeys(told))}"
    return "The next job waits for a slot of a worker that has a Ray cluster."


def waits_for_gpus(who: str, gpus: int, fleet: Sequence[Block]) -> str:
    """What to say of a job that finds so many on no worker of those now."""
    wanted = counted(gpus, [one.worker for one in fleet])
    largest = max((one.gpus for one in fleet), default=0)
    if not fleet:
        return f"{who} waits for {wanted}; no worker is connected."
    if largest < gpus:
        return f"{who} waits for {wanted}; the largest worker has {largest}."
    return f"{who} waits for {wanted}; the largest free block is {max(one.free for one in fleet)}."
