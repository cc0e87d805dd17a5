"""The worker process is to stop: one flag that wakes every supervisor and the reconciler."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Shutdown:
    """Set once, from a signal handler or another thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wakes: set[threading.Event] = set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        """Ask everything in this process to stop."""
        self._event.set()
        for wake in tuple(self._wakes):
            wake.set()

    def wait(self, timeout: float) -> bool:
        """Whether a stop was asked for, after ``timeout`` seconds at most."""
        return self._event.wait(timeout)

    @contextmanager
    def waking(self, wake: threading.Event) -> Iterator[None]:
        """Within the block a request also sets ``wake``."""
        self._wakes.add(wake)
        try:
            yield
        finally:
            self._wakes.discard(wake)
