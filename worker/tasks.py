"""The one task: a wake-up call for a job."""

from celery import shared_task

from app.queue import PROBE_TASK_NAME, TASK_NAME
from worker import probes, supervisor
from worker.celery_app import SHUTDOWN
from worker.lease import new_owner

OWNER = new_owner()


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(job_id: str) -> None:
    """Claim the job and run it; nothing happens when it is not waiting (a repeated or late message)."""
    supervisor.run_job(job_id, OWNER, SHUTDOWN)


@shared_task(name=PROBE_TASK_NAME, ignore_result=True)
def run_probe(estimate_id: str) -> None:
    """Claim the estimate and run its probe; likewise."""
    probes.run_probe(estimate_id, SHUTDOWN)
