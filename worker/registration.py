"""This worker's row, by which people see that it is there, and have it drained (``app.workers``).

With each look at it goes one at the large jobs that wait for room (``worker.jobs.room``).
"""

import logging
import threading
import time

from sqlalchemy.exc import InterfaceError, OperationalError

from app.core.gpus import memories
from app.core.settings import get_settings
from app.core.tables import TrainingWorker
from trainer.system.host_memory import host_memory
from worker.intake import Intake
from worker.jobs.room import Room
from worker.presence import CacheUse, facts, remove_row, write_row
from worker.ray_cluster import RayCluster
from worker.shutdown import Shutdown

#: More than any wait for the database comes to, with all that is written in a turn.
STUCK_SECONDS = 180.0
_log = logging.getLogger(__name__)


class Registration:
    """Keeps the row fresh while it runs, and opens and shuts the ``intake`` as the row says."""

    def __init__(self, owner: str, intake: Intake, room: Room):
        self._id, self._intake, self._room = owner, intake, room
        self._facts: dict[str, object] = {}
        self._cluster, self._cache = RayCluster(get_settings()), CacheUse()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._turned_at = time.monotonic()

    def start(self, shutdown: Shutdown) -> None:
        """Begin, in a thread of its own; a worker that is shutting down drains."""
        settings = get_settings()
        memory = {"host_bytes": host_memory(), "gpu_bytes": memories(settings)}
        self._facts = facts(settings) | {
            "slots": settings.worker_slots,
            "draining": False,
            "memory": memory,
        }
        self._cluster.start()
        self._thread = threading.Thread(target=self._run, args=(shutdown,), name="registration", daemon=True)
        self._thread.start()

    @property
    def turns(self) -> bool:
        """Whether the thread goes on, be the database there or away: else the process is stuck."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    def stop(self) -> None:
        """The worker has ended: its row goes."""
        self._ended.set()
        self._cluster.stop()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        remove_row(TrainingWorker, self._id)

    def _run(self, shutdown: Shutdown) -> None:
        with shutdown.waking(self._wake):
            while not self._ended.is_set():
                self._wake.clear()
                self._turned_at = time.monotonic()
                try:
                    drains = self.write(draining=shutdown.requested)
                    self._intake.set_open(not drains)
                    self._room.on_ray = self._cluster.answers
                    self._room.look(self._id, drains=drains)
                except (OperationalError, InterfaceError) as error:
                    _log.warning("the worker's row could not be written: %s", error.orig)
                except Exception:
                    _log.exception("the worker's row could not be written")
                self._wake.wait(get_settings().heartbeat_seconds)

    def write(self, *, draining: bool = False) -> bool:
        """Write the row, that it drains, too, or else as people want; whether it drains now."""
        changed: dict[str, object] = {"ray": self._cluster.seen, "cache": self._cache.seen()}
        if draining:
            changed["draining"] = True
        seconds = get_settings().lease_seconds
        (drains,) = write_row(
            TrainingWorker, self._id, self._facts, changed, TrainingWorker.draining, lease_seconds=seconds
        )
        return drains
