"""What messages ask of a worker: look for a job, run an estimate's probe."""

from celery import shared_task

from app.core.queue import PROBE_TASK_NAME, TASK_NAME, send_probe, send_wakeup
from worker.celery_app import INTAKE, OWNER, SHUTDOWN
from worker.estimates import probes
from worker.jobs import supervisor
from worker.replays.replaying import run_next_replay


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(*_: str) -> None:
    """Run the job that is next; nothing happens when none waits (a repeated or late message).

    Messages of older releases name a job.
    """
    if not INTAKE.open:
        send_wakeup("what others are to run")  # it came while the worker began to drain
    elif supervisor.run_next(OWNER, SHUTDOWN) is None:
        run_next_replay(OWNER, SHUTDOWN)


@shared_task(name=PROBE_TASK_NAME, ignore_result=True)
def run_probe(estimate_id: str) -> None:
    """Claim the estimate and run its probe; likewise."""
    if not INTAKE.open:
        send_probe(estimate_id)
    else:
        probes.run_probe(estimate_id, OWNER, SHUTDOWN)
