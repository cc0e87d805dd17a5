"""Keeps a claim's lease alive and reads the user's flags, in a thread of its own.

Nothing that the supervisor does can starve it: a slow insert, a slow disk. A transaction of the relay's that
has the job's row locked keeps it out, but renews the lease itself as its last act (``worker.jobs.relay``),
and whoever ends lost attempts passes over locked rows.
"""

import logging
import threading
import time

from sqlalchemy.exc import InterfaceError, OperationalError

from app.core.settings import get_settings
from trainer.system import logs
from worker.jobs import holding
from worker.jobs.holding import Flags
from worker.lease import Claim, LeaseLost

FLAG_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Heartbeat:
    """Runs from its creation until :meth:`stop`; ``wake`` is set when there is news."""

    def __init__(self, claim: Claim, wake: threading.Event):
        self._claim, self._wake = claim, wake
        self._flags = Flags(cancel_requested=False, pause_requested=False)
        self._lost = False
        self._stopped = threading.Event()
        self._until = 0.0
        self.renewed(time.monotonic())
        self._thread = threading.Thread(
            target=logs.carried(self._run), name=f"heartbeat {claim.id}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Renew no longer."""
        self._stopped.set()
        self._thread.join()

    def renewed(self, now: float) -> None:
        """The lease was extended from ``now``, of the monotonic clock."""
        self._until = max(self._until, now + get_settings().lease_seconds)

    @property
    def expired(self) -> bool:
        """Another worker may hold the job: the lease could not be renewed in time."""
        return time.monotonic() >= self._until

    def flags(self) -> Flags:
        """The user's flags as they were last read; raises LeaseLost when the job is not ours."""
        if self._lost:
            raise LeaseLost(self._claim)
        return self._flags

    def _run(self) -> None:
        interval = get_settings().heartbeat_seconds
        next_renewal = time.monotonic() + interval
        while not self._stopped.wait(min(FLAG_SECONDS, interval)):
            now = time.monotonic()
            try:
                if now >= next_renewal:
                    flags = holding.renew(self._claim)
                    self.renewed(now)
                    next_renewal = now + interval
                else:
                    flags = holding.read_flags(self._claim)
            except LeaseLost:
                self._lost = True
                self._wake.set()
                return
            except (OperationalError, InterfaceError) as error:
                _log.warning("%s: the lease cannot be renewed: %s", self._claim.id, error.orig)
                continue
            except Exception:
                _log.exception("%s: the lease cannot be renewed", self._claim.id)
                continue
            if flags != self._flags:
                self._flags = flags
                self._wake.set()
