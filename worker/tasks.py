"""The one task: a wake-up call for a job."""

from celery import shared_task

from app.queue import TASK_NAME
from worker import supervisor
from worker.celery_app import SHUTDOWN
from worker.lease import new_owner

OWNER = new_owner()


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(job_id: str) -> None:
    """Claim the job and run it; nothing happens when it is not waiting (a repeated or late message)."""
    supervisor.run_job(job_id, OWNER, SHUTDOWN)
