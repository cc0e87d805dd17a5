"""``python -m worker``: a worker with ``POLICYSPLIT_WORKER_SLOTS`` slots.

SIGTERM and Ctrl-C stop it: trainers write a checkpoint and their jobs go back to the queue.
"""

import sys

from celery.signals import setup_logging

from app.core import tracing
from app.core.gpus import TooFewGpus
from app.core.health import connections_warning
from app.core.migrate import schema_standing
from app.core.private import keep_private, tighten_if_open
from app.core.queue import QUEUE_NAME
from app.core.settings import get_settings
from trainer.system import logs
from worker import gpus


def main() -> int:
    """Check what can be checked, then run until told to stop; the exit code."""
    keep_private()
    tighten_if_open(get_settings().data_dir)
    try:
        gpus.slots()
    except TooFewGpus as error:
        print(error, file=sys.stderr)
        return 1
    try:
        tracing.set_up("worker")
    except tracing.TracingMissing as error:
        print(error, file=sys.stderr)
        return 1
    if problem := schema_standing().problem:
        print(f"the database's schema is {problem}", file=sys.stderr)
        return 1
    if warning := connections_warning():
        print(warning, file=sys.stderr)
    # Here rather than at the top: the application reads the settings when it is imported.
    from worker.celery_app import app

    if logs.wants_json():
        # Celery sets its own up where nobody else does.
        setup_logging.connect(lambda **_: logs.set_up("worker"), weak=False)
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={get_settings().worker_slots}",
            f"--queues={QUEUE_NAME}",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
