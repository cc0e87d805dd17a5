"""``python -m worker``: a worker with ``POLICYSPLIT_WORKER_SLOTS`` slots.

SIGTERM and Ctrl-C stop it: trainers write a checkpoint and their jobs go back to the queue.
"""

import sys

from app.core.db import get_engine
from app.core.health import connections_warning
from app.core.migrate import current_revision, head_revision
from app.core.private import keep_private, tighten_if_open
from app.core.queue import QUEUE_NAME
from app.core.settings import get_settings
from worker import gpus


def main() -> int:
    """Check what can be checked, then run until told to stop; the exit code."""
    keep_private()
    tighten_if_open(get_settings().data_dir)
    try:
        gpus.slots()
    except gpus.TooFewGpus as error:
        print(error, file=sys.stderr)
        return 1
    found, needed = current_revision(get_engine()), head_revision()
    if found != needed:
        print(
            f"the database is at revision {found or 'none (empty)'}, this worker needs {needed}: "
            "run `policysplit migrate`",
            file=sys.stderr,
        )
        return 1
    if warning := connections_warning():
        print(warning, file=sys.stderr)
    # Here rather than at the top: the application reads the settings when it is imported.
    from worker.celery_app import app

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
