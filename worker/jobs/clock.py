"""How fast a job goes and how long it has trained, by its trainer's events: for estimates and budgets."""

from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.job_status import JobStatus
from app.core.tables import Job
from app.jobs.budget import ENTROPY_METRIC, ENTROPY_REACH, Spent, asks_for_pauses, used_up
from app.jobs.methods import settings_of
from app.jobs.status import change_status
from app.series.repository import curves_of_job
from trainer.spec.events import Event, Started, StepMetrics
from worker.jobs.holding import hold
from worker.lease import Claim

_COLUMNS = (Job.clock_step, Job.clock_at, Job.stepped_at, Job.budget_seconds, Job.gpus)


@dataclass
class Clock:
    """The columns of a job's row that tell time. The pace is that of the attempt, without its start-up."""

    clock_step: int | None
    clock_at: float | None
    stepped_at: float | None
    budget_seconds: float
    gpus: int

    def see(self, event: Event) -> None:
        """Move on by an event of the trainer's."""
        if isinstance(event, Started):
            self.clock_step = self.clock_at = None
            self.stepped_at = event.time
            self.gpus = 0 if event.device.startswith("cpu") else 1
        elif isinstance(event, StepMetrics):
            if self.stepped_at is not None:
                self.budget_seconds += max(0.0, event.time - self.stepped_at)
            self.stepped_at = event.time
            if self.clock_step is None:
                self.clock_step, self.clock_at = event.step, event.time


def advance(session: Session, job_id: str, events: list[Event]) -> dict[str, object]:
    """The new values of the columns; the caller has locked the row."""
    clock = Clock(*session.execute(select(*_COLUMNS).where(Job.id == job_id)).one())
    for event in events:
        clock.see(event)
    return asdict(clock)


def pause_if_used_up(session: Session, claim: Claim) -> None:
    """Ask for a pause, in the transaction that recorded a step, when a budget of the job is used up."""
    query = select(
        Job.method, Job.status, Job.step, Job.total_steps, Job.budget_step, Job.budget_seconds, Job.gpus
    )
    job = session.execute(query.where(Job.id == claim.id)).one()
    budget = settings_of(job.method).get("budget", {})
    # After the last step there is nothing left to pause.
    if not asks_for_pauses(budget) or job.status != JobStatus.RUNNING or job.step >= job.total_steps:
        return
    first = max(job.budget_step, job.step - ENTROPY_REACH) + 1
    entropies = _entropies(session, claim.id, first, job.step)
    reason = used_up(budget, Spent(job.step - job.budget_step, job.budget_seconds, job.gpus, entropies))
    if reason is not None:
        row = hold(session, claim)
        row.pause_requested = True
        text = f"{reason} The job is being paused; resuming it grants its budgets again."
        change_status(session, row, JobStatus.PAUSING, message=text)


def _entropies(session: Session, job_id: str, first: int, last: int) -> list[float]:
    curves = curves_of_job(session, job_id, [ENTROPY_METRIC], first, last)
    return [value for curve in curves.values() for value in curve.values.tolist()]
