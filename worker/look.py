"""The look at the grader before training (``trainer.preflight``): the job is in ``validating_files`` then.

It needs the model and so a worker: a job that waited in ``queued`` goes back to ``validating_files`` when its
turn comes, and is ``running`` once the look is over. Whatever the look finds wrong, it never was running.
"""

from app.tables import Job
from trainer.events import Event, Failed, MessageEvent, Phase, Started

#: The trainer's name for the phase (``trainer.loop``).
PHASE = "preflight"


def is_due(job: Job) -> bool:
    """Whether the job's trainer looks before it trains; it does so once in a job's life."""
    spec = job.run_spec.get("preflight")
    return bool(spec and spec["samples"] and job.total_steps) and job.started_at is None


def is_over(event: Event) -> bool:
    """Whether the event says that the trainer has gone on to something else."""
    if isinstance(event, Phase):
        return event.phase != PHASE
    if isinstance(event, Started):
        return event.step > 0
    return not isinstance(event, MessageEvent | Failed)
