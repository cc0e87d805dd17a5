"""``python -m worker``: a worker with ``POLICYSPLIT_WORKER_SLOTS`` slots.

SIGTERM and Ctrl-C stop it: trainers write a checkpoint and their jobs go back to the queue.
"""

import sys

from app.db import get_engine
from app.migrate import current_revision, head_revision
from app.queue import QUEUE_NAME
from app.settings import get_settings


def main() -> int:
    """Check what can be checked, then run until told to stop; the exit code."""
    found, needed = current_revision(get_engine()), head_revision()
    if found != needed:
        print(
            f"the database is at revision {found or 'none (empty)'}, this worker needs {needed}: "
            "run `policysplit migrate`",
            file=sys.stderr,
        )
        return 1
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
