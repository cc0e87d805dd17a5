"""The status during the preflight check (``trainer.evaluation.preflight``): ``validating_files``.

It needs the model and so a worker: a job that waited in ``queued`` goes back to ``validating_files`` when its
turn comes, and is ``running`` once the check is over. If the check fails, the job was never running.
"""

from sqlalchemy import ColumnElement, and_, func

from app.core.tables import Job
from trainer.spec.events import Event, Failed, MessageEvent, Phase, Started

#: The trainer's name for the phase (``trainer.loop``), and that of what comes before: waiting for hosts of a
#: cluster (``trainer.gang``).
PHASES = ("preflight", "placement")


def is_due() -> ColumnElement[bool]:
    """The condition that a job's trainer checks before it trains; it does so once in a job's life."""
    samples = func.coalesce(Job.run_spec[("preflight", "samples")].as_integer(), 0)
    return and_(samples > 0, Job.total_steps > 0, Job.started_at.is_(None))


def is_over(event: Event) -> bool:
    """Whether the event says that the trainer has gone on to something else."""
    if isinstance(event, Phase):
        return event.phase not in PHASES
    if isinstance(event, Started):
        return event.step > 0
    return not isinstance(event, MessageEvent | Failed)
