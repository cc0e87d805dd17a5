"""The one task: a wake-up call.

It carries a job's id, as a message must carry something. What is run is the job whose turn it is.
"""

from celery import shared_task

from app.queue import PROBE_TASK_NAME, TASK_NAME
from worker import probes, supervisor
from worker.celery_app import SHUTDOWN
from worker.lease import new_owner
from worker.replaying import run_next_replay

OWNER = new_owner()


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(job_id: str) -> None:
    """Run the job that is next; nothing happens when none waits (a repeated or late message)."""
    if supervisor.run_next(OWNER, SHUTDOWN) is None:
        run_next_replay(OWNER, SHUTDOWN)


@shared_task(name=PROBE_TASK_NAME, ignore_result=True)
def run_probe(estimate_id: str) -> None:
    """Claim the estimate and run its probe; likewise."""
    probes.run_probe(estimate_id, SHUTDOWN)
