"""A job's pace and how long it has trained, from its trainer's events: for estimates and budgets."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.accounting.counting import Amounts, Place, count_attempt, day_of, note_storage
from app.accounting.limits import gpu_hours_used_up
from app.core.job_status import JobStatus
from app.core.tables import Job
from app.jobs.budget import ENTROPY_METRIC, ENTROPY_REACH, Spent, asks_for_pauses, used_up
from app.jobs.methods import settings_of
from app.jobs.status import change_status
from app.series.repository import curves_of_job
from trainer.spec.events import Event, Started, StepMetrics
from worker.jobs.holding import hold
from worker.lease import Claim

#: Of a job's row: what a :class:`Clock` is made from, and what budgets are looked at by.
COLUMNS = (Job.clock_step, Job.clock_at, Job.stepped_at, Job.budget_seconds, Job.gpus, Job.held_gpus)
BUDGET = (Job.method, Job.status, Job.step, Job.total_steps, Job.budget_step)


@dataclass
class Clock:
    """The columns of a job's row that tell time. The pace is that of the attempt, without its start-up."""

    clock_step: int | None
    clock_at: float | None
    stepped_at: float | None
    budget_seconds: float
    gpus: int
    """Whose seconds are counted: none on the CPU."""
    held_gpus: int = 1
    """What the attempt has of its worker, GPUs or slots that stand in for them."""

    def see(self, event: Event) -> None:
        """Move on by an event of the trainer's."""
        if isinstance(event, Started):
            self.clock_step = self.clock_at = None
            self.stepped_at = event.time
            self.gpus = 0 if event.device.startswith("cpu") else self.held_gpus
        elif isinstance(event, StepMetrics):
            if self.stepped_at is not None:
                self.budget_seconds += max(0.0, event.time - self.stepped_at)
            self.stepped_at = event.time
            if self.clock_step is None:
                self.clock_step, self.clock_at = event.step, event.time


def pause_if_used_up(session: Session, claim: Claim, columns: tuple[Any, ...], clock: Clock) -> bool:
    """Ask for a pause, in the transaction that recorded a step, when a budget of the job is used up; whether
    it is.

    ``columns`` are the :data:`BUDGET` of its row, which the transaction has locked.
    """
    method, status, step, total_steps, budget_step = columns
    budget = settings_of(method).get("budget", {})
    # After the last step there is nothing left to pause.
    if not asks_for_pauses(budget) or status != JobStatus.RUNNING or step >= total_steps:
        return False
    entropies = _entropies(session, claim.id, max(budget_step, step - ENTROPY_REACH) + 1, step)
    reason = used_up(budget, Spent(step - budget_step, clock.budget_seconds, clock.gpus, entropies))
    if reason is None:
        return False
    row = hold(session, claim)
    row.pause_requested = True
    text = f"{reason} The job is being paused; resuming it renews its budgets."
    change_status(session, row, JobStatus.PAUSING, message=text)
    return True


def count_use(session: Session, claim: Claim) -> None:
    """Add what the attempt has used by now, and ask for a pause where the project may use no more.

    Nothing is lost by that: the job writes a checkpoint, and can be resumed once there is room.
    """
    job = hold(session, claim)
    count_attempt(session, job)
    if job.disk_bytes:
        place = Place(job.project_id, day_of(time.time()), job.id, job.model)
        note_storage(session, place, job.disk_bytes)
    if job.status != JobStatus.RUNNING or job.step >= job.total_steps:
        return
    if (problem := gpu_hours_used_up(session, job.project_id)) is not None:
        job.pause_requested = True
        change_status(session, job, JobStatus.PAUSING, message=f"{problem} The job is being paused.")


def steps_of(events: list[Event]) -> Amounts:
    """What steps have come to: tokens, and responses that were graded."""
    total = Amounts()
    for event in events:
        if isinstance(event, StepMetrics):
            graded = sum(value for name, value in event.values.items() if name.endswith("/graded"))
            total.trained_tokens += int(event.values.get("train/tokens_trained", 0.0))
            total.sampled_tokens += int(event.values.get("train/tokens_generated", 0.0))
            total.gradings += int(event.values.get("train/samples_generated", 0.0) + graded)
    return total


def _entropies(session: Session, job_id: str, first: int, last: int) -> list[float]:
    curves = curves_of_job(session, job_id, [ENTROPY_METRIC], first, last)
    return [value for curve in curves.values() for value in curve.values.tolist()]
