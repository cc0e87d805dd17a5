"""What messages ask of a worker: look for a job, run an estimate's probe."""

from celery import shared_task

from app.core.queue import PROBE_TASK_NAME, TASK_NAME, send_probe, send_wakeup
from worker.celery_app import INTAKE, OWNER, ROOM, SHUTDOWN
from worker.estimates import probes
from worker.jobs import holding, supervisor
from worker.replays.replaying import run_next_replay


@shared_task(name=TASK_NAME, ignore_result=True)
def run_job(*_: str) -> None:
    """Run the job that is next; nothing happens when none waits (a repeated or late message).

    Messages of older releases name a job.
    """
    if not INTAKE.open:
        send_wakeup("what others are to run")  # it came while the worker began to drain
    elif supervisor.run_next(OWNER, SHUTDOWN, ROOM) is None and not _replay() and holding.any_due():
        INTAKE.rest()
        send_wakeup("what has no room here")
        return
    INTAKE.room_made()


def _replay() -> bool:
    with ROOM.taken() as slots:
        return bool(slots) and run_next_replay(OWNER, SHUTDOWN, slots) is not None


@shared_task(name=PROBE_TASK_NAME, ignore_result=True)
def run_probe(estimate_id: str) -> None:
    """Claim the estimate and run its probe; likewise."""
    with ROOM.taken(probes.gpus_of(estimate_id)) as slots:
        if not INTAKE.open or not slots:
            INTAKE.rest()
            send_probe(estimate_id)
            return
        probes.run_probe(estimate_id, OWNER, SHUTDOWN, slots)
    INTAKE.room_made()
