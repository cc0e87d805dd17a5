"""A worker's capacity for jobs: which GPUs are free, and for which job they are reserved.

Jobs of one GPU find room wherever a slot is free. A job of several has to find them together, and small jobs
would take each as it becomes free. So one whose turn it is and that fits nowhere is told so, and once it has
waited for ``reserve_seconds``, that worker of those that could hold it which has the most free keeps what
becomes free for it alone. Workers that can never hold it take the others meanwhile, as do all that keep room
for no job.
"""

import logging
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from app.core.db import get_engine, read_session, write_session
from app.core.fleet import Block, blocks, counted, keepers, large_waiting, least, waits_for_gpus
from app.core.job_log import add_event
from app.core.queue import send_wakeup
from app.core.settings import get_settings
from app.core.tables import Job, TrainingWorker
from app.jobs.order import HEADS, first_due, is_due
from trainer.spec.resources import MOST_GPUS, Resources
from worker import gpus
from worker.gpus import Slots
from worker.jobs import holding
from worker.lease import Claim

#: Of the jobs that are next, how many are looked at.
_LOOKED_AT = 16
_log = logging.getLogger(__name__)


class Room:
    """That of one worker; asked from the threads of its slots and of its registration."""

    def __init__(self, slots: Slots | None = None):
        self._given = slots
        self._claiming = threading.Lock()
        self._kept_for: str | None = None
        self.on_ray = False
        """Whether there is a Ray cluster that answers: only then are its jobs taken."""

    @property
    def _slots(self) -> Slots:
        # Asked of the machine when they are first needed, not at import.
        return self._given or gpus.slots()

    @property
    def free(self) -> int:
        """How many of the worker's GPUs are free."""
        return self._slots.free

    @property
    def _least(self) -> int:
        return 0 if self.on_ray else 1

    @property
    def kept_for(self) -> str | None:
        """The job that alone may have what is free."""
        return self._kept_for

    @contextmanager
    def claimed(self, owner: str) -> Generator[tuple[Claim, tuple[int, ...]] | None]:
        """The next job that fits, and the slots that it has meanwhile; None where there is none."""
        # One at a time: what one look found free, another must not count on.
        with self._claiming:
            claim = None
            if free := self.free:
                claim = holding.claim_next(owner, room=free, only=self._kept_for, least=self._least)
            slots = () if claim is None else self._slots.take_together(claim.gpus)
            if claim is not None:
                self._kept_for = None
        try:
            yield None if claim is None else (claim, slots)
        finally:
            self._slots.give_back(*slots)

    @contextmanager
    def taken(self, gpus: int = 1) -> Generator[tuple[int, ...]]:
        """The slots of so many GPUs, for what is not a job, such as an estimate's probe; empty: there is no
        room for it."""
        with self._claiming:
            fits = self._kept_for is None and self.free >= gpus
            slots = self._slots.take_together(gpus) if fits else ()
        try:
            yield slots
        finally:
            self._slots.give_back(*slots)

    def any_due(self) -> bool:
        """Whether a job waits that fits, or that others have locked."""
        free = self.free
        return bool(free) and holding.any_due(free, self._kept_for, self._least)

    # --- for large jobs ----------------------------------------------------------------------------------

    def look(self, owner: str, *, drains: bool) -> None:
        """Tell of large jobs whose turn it is, and keep room for one where this worker is to; every few
        seconds."""
        self._kept_for = None if drains else self._look(owner)
        if drains:
            self._release(owner)

    def _look(self, owner: str) -> str | None:
        with read_session() as session:
            if session.scalar(select(Job.id).where(*large_waiting()).limit(1)) is None:
                return None
            own = session.scalars(select(Job).where(Job.reserved_by == owner, *is_due(time.time()))).first()
            postgresql = get_engine().dialect.name == "postgresql"
            fleet = [block for block in blocks(session) if block.takes_jobs]
            room = least(fleet), MOST_GPUS
            order = first_due(time.time(), heads=HEADS[0], postgresql=postgresql, room=room)
            ids = session.scalars(order.limit(_LOOKED_AT)).all()
            found = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
            live = {block.worker.id for block in fleet}
            keeping = {one: job_id for one, job_id in keepers(session).items() if one in live}
        for job_id in ids:
            job = found.get(job_id)
            free = (block.free for block in fleet if keeping.get(block.worker.id) in (None, job_id))
            if job is None or job.wanted_gpus == 1 or job.least_gpus <= max(free, default=0):
                break  # it is taken as soon as there is a slot, and what comes after it is not next
            if _see(job, fleet, owner, keeping) and own is None:
                own = job
        if own is not None and own.least_gpus <= self.free:
            send_wakeup(own.id)  # its own may be with a worker that has no room for it
        return None if own is None else own.id

    def _release(self, owner: str) -> None:
        with write_session() as session:
            _set(session, Job.reserved_by == owner, reserved_by=None)


def _see(job: Job, fleet: Sequence[Block], owner: str, keeping: dict[str, str]) -> bool:
    """Tell a job that it is next and fits nowhere now, and later keep room for it; whether this worker does.

    ``keeping``: the workers that keep room, and for which job.
    """
    now = time.time()
    able = [block for block in fleet if block.gpus >= job.least_gpus]
    if not able and (least := _may_go_on_with(job, fleet)) is not None:
        with write_session() as session:
            if _set(session, Job.id == job.id, least_gpus=least):
                text = (
                    f"No worker has {counted(job.least_gpus, _workers(fleet))}: the job continues with "
                    f"at least {least}, as min_gpus allows."
                )
                add_event(session, job.id, "warn", "message", text)
        return False
    if job.turn_at is None:
        with write_session() as session:
            if _set(session, Job.id == job.id, Job.turn_at.is_(None), turn_at=now):
                add_event(
                    session, job.id, "info", "message", waits_for_gpus("The job", job.least_gpus, fleet)
                )
        return False
    if job.id in keeping.values() or now - job.turn_at < get_settings().reserve_seconds:
        return False
    able = [one for one in able if one.worker.id not in keeping]
    if not able or max(able, key=lambda one: (one.free, one.worker.id)).worker.id != owner:
        return False
    live = [block.worker.id for block in fleet]
    with write_session() as session:
        free = or_(Job.reserved_by.is_(None), Job.reserved_by.not_in(live))
        if not _set(session, Job.id == job.id, free, reserved_by=owner):
            return False
        its = next(block for block in able if block.worker.id == owner)
        text = f"What becomes free on {its.worker.host or owner} is reserved for the job: {its.free} of "
        add_event(
            session, job.id, "info", "message", f"{text}{counted(job.least_gpus, _workers(fleet))} so far."
        )
    _log.info("keeping room for %s", job.id)
    keeping[owner] = job.id
    return True


def _may_go_on_with(job: Job, fleet: Sequence[Block]) -> int | None:
    """With how few GPUs a job may go on that has begun, where the workers that are left have no more."""
    least = Resources.model_validate(job.run_spec.get("resources") or {}).min_gpus
    if job.attempt == 0 or least is None or least >= job.least_gpus:
        return None
    return least if any(block.gpus >= least for block in fleet) else None


def _workers(fleet: Sequence[Block]) -> list[TrainingWorker]:
    return [block.worker for block in fleet]


def _set(session: Session, *conditions: ColumnElement[bool], **values: object) -> bool:
    """Change a waiting job that is so; whether there was one."""
    changed = session.scalars(
        update(Job)
        .where(Job.status == "queued", *conditions)
        .values(**values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return bool(changed.all())
