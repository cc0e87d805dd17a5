"""This worker's row, by which people see that it is there, and have it drained (``app.workers``)."""

import logging
import socket
import threading
import time
from importlib.metadata import version

from sqlalchemy import delete
from sqlalchemy.exc import InterfaceError, OperationalError

from app.core.db import write_session
from app.core.settings import get_settings
from app.core.tables import TrainingWorker
from app.core.upsert import insert_for
from worker.gpus import inventory
from worker.intake import Intake
from worker.shutdown import Shutdown

#: Rows of workers that ended without removing theirs go after this many leases.
FORGOTTEN_LEASES = 30
_log = logging.getLogger(__name__)


class Registration:
    """Keeps the row fresh while it runs, and opens and shuts the ``intake`` as the row says."""

    def __init__(self, owner: str, intake: Intake):
        self._id, self._intake = owner, intake
        self._facts: dict[str, object] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, shutdown: Shutdown) -> None:
        """Begin, in a thread of its own; a worker that is shutting down drains."""
        settings = get_settings()
        self._facts = {
            "host": socket.gethostname(),
            "version": version("policysplit"),
            "slots": settings.worker_slots,
            "gpus": inventory(settings),
            "started_at": time.time(),
        }
        self._thread = threading.Thread(target=self._run, args=(shutdown,), name="registration", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The worker has ended: its row goes."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        try:
            with write_session() as session:
                session.execute(delete(TrainingWorker).where(TrainingWorker.id == self._id))
        except (OperationalError, InterfaceError) as error:
            _log.warning("the worker's row could not be removed: %s", error.orig)

    def _run(self, shutdown: Shutdown) -> None:
        with shutdown.waking(self._wake):
            while not self._ended.is_set():
                self._wake.clear()
                try:
                    self._intake.set_open(not self.write(draining=shutdown.requested))
                except (OperationalError, InterfaceError) as error:
                    _log.warning("the worker's row could not be written: %s", error.orig)
                except Exception:
                    _log.exception("the worker's row could not be written")
                self._wake.wait(get_settings().heartbeat_seconds)

    def write(self, *, draining: bool = False) -> bool:
        """Write the row, that it drains, too, or else as people want; whether it drains now.

        Rows of workers long gone are removed.
        """
        now = time.time()
        settings = get_settings()
        with write_session() as session:
            row = insert_for(session, TrainingWorker).values(
                id=self._id, heartbeat_at=now, draining=draining, **self._facts
            )
            changed = {"heartbeat_at": now} | ({"draining": True} if draining else {})
            kept = row.on_conflict_do_update(index_elements=["id"], set_=changed)
            drains = session.execute(kept.returning(TrainingWorker.draining)).scalar_one()
            forgotten = now - FORGOTTEN_LEASES * settings.lease_seconds
            session.execute(delete(TrainingWorker).where(TrainingWorker.heartbeat_at < forgotten))
        return drains
