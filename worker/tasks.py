"""What messages ask of a worker: look for a job, run an estimate's probe."""

from celery import shared_task

from app.core.queue import PROBE_TASK_NAME, TASK_NAME
from worker.celery_app import SHUTDOWN
from worker.estimates import probes
from worker.jobs import supervisor
from worker.lease import new_owner
from worker.replays.replaying import run_next_replay

OWNER = new_owner()


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(*_: str) -> None:
    """Run the job that is next; nothing happens when none waits (a repeated or late message).

    Messages of older releases name a job.
    """
    if supervisor.run_next(OWNER, SHUTDOWN) is None:
        run_next_replay(OWNER, SHUTDOWN)


@shared_task(name=PROBE_TASK_NAME, ignore_result=True)
def run_probe(estimate_id: str) -> None:
    """Claim the estimate and run its probe; likewise."""
    probes.run_probe(estimate_id, OWNER, SHUTDOWN)
