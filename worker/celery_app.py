"""The Celery application of the workers: one task, one queue, messages acknowledged before they are acted on.

Redis gives an unacknowledged message to the next worker after an hour; with late acknowledgement a longer
job would run twice. So a message is acknowledged at once, and the lease in the database says who runs what.
A worker takes a message only when it has a free slot, so that none waits behind a job of hours.

``python -m worker`` starts it; ``celery -A worker.celery_app worker --pool threads`` does too.
"""

import logging
import os
import sys

from celery import Celery
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker.consumer import Consumer

from app.core.queue import QUEUE_NAME
from app.core.settings import get_settings
from worker.evals.running import start_evals
from worker.figures_server import FiguresServer
from worker.intake import Intake, gate
from worker.jobs.room import Room
from worker.lease import new_owner
from worker.reconciler import start_reconciler
from worker.registration import Registration
from worker.shutdown import Shutdown

SHUTDOWN = Shutdown()
ROOM = Room()
INTAKE = Intake(lambda: ROOM.free)
OWNER = new_owner()
REGISTRATION = Registration(OWNER, INTAKE, ROOM)
_log = logging.getLogger(__name__)


def configuration() -> dict[str, object]:
    """Celery's configuration; evaluated when it is first needed, not at import."""
    settings = get_settings()
    return {
        "broker_url": settings.resolved_broker_url,
        "include": ["worker.tasks"],
        "task_default_queue": QUEUE_NAME,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        # Early acknowledgement, and never a second delivery on the loss of a worker: see above.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "worker_pool": "threads",
        "worker_concurrency": settings.worker_slots,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # SIGQUIT's variant of the warm shutdown that SIGTERM and Ctrl-C begin: see on_shutting_down.
        "worker_soft_shutdown_timeout": settings.stop_grace_seconds,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        # A broker that is away, at the start or later, is waited for: running jobs do not need it.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {"socket_keepalive": True},
    }


app = Celery("policysplit")
app.add_defaults(configuration)
app.steps["consumer"].add(gate(INTAKE))  # pyright: ignore[reportOptionalSubscript]


def _tell_figures() -> None:
    settings = get_settings()
    if (port := settings.worker_metrics_port) is None:
        return
    try:
        server = FiguresServer(settings.metrics_host, port)
    except OSError as error:
        # Celery logs what handlers raise, and goes on.
        sys.exit(f"worker: {error.strerror}")
    server.start(alive=lambda: REGISTRATION.turns, ready=lambda: INTAKE.takes)


@worker_init.connect
def on_init(**_: object) -> None:
    """Start the reconciler, the registration and the runs of evals, which work without a broker too.

    Ends the process where the figures cannot be told at the port that was asked for.
    """
    _tell_figures()
    ready_file = get_settings().ready_file
    if ready_file is not None:
        # Left by a worker that was killed: its process id may be another process's by now.
        ready_file.unlink(missing_ok=True)
    start_reconciler(SHUTDOWN)
    REGISTRATION.start(SHUTDOWN)
    start_evals(OWNER, SHUTDOWN, INTAKE)


@worker_ready.connect
def on_ready(sender: Consumer, **_: object) -> None:
    """Tell whoever waits for it (``policysplit serve``) that jobs are taken from now on."""
    INTAKE.attach(sender)
    ready_file = get_settings().ready_file
    if ready_file is not None:
        ready_file.write_text(str(os.getpid()))


@worker_shutting_down.connect
def on_shutting_down(**_: object) -> None:
    """Let every supervisor stop its trainer; Celery then waits for their tasks to return."""
    SHUTDOWN.request()


@worker_shutdown.connect
def on_shutdown(**_: object) -> None:
    """The end, however it came."""
    SHUTDOWN.request()
    REGISTRATION.stop()
