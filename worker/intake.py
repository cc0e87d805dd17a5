"""Whether this worker takes messages. While it drains it leaves them to the others; what runs goes on.

A message that finds no slot free, or jobs alone that have no room here, would wait with this worker while
others could act on it: so none is taken then, and one that came is sent back.
"""

import threading
import time
from collections.abc import Callable
from types import MethodType
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer

from app.core.queue import QUEUE_NAME

#: How long no message is taken after one that nothing here has room for, unless room is made.
REST_SECONDS = 2.0


class Intake:
    """Open at first; told from any thread."""

    def __init__(self, free: Callable[[], int] = lambda: 1) -> None:
        """``free`` says how many slots, or their GPUs, nobody uses."""
        self._free = free
        self._rests_until = 0.0
        self._open = True
        self._consumer: Consumer | None = None
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        return self._open

    @property
    def takes(self) -> bool:
        """Whether messages are taken: it is open, and what gets them is there."""
        return self._open and self._consumer is not None

    @property
    def has_room(self) -> bool:
        """Whether a message could be acted on now."""
        return time.monotonic() >= self._rests_until and self._free() > 0

    def rest(self) -> None:
        """Take no message for a moment: what waits has no room here."""
        self._rests_until = time.monotonic() + REST_SECONDS

    def room_made(self) -> None:
        """Take messages again: there is more room than before."""
        self._rests_until = 0.0

    def attach(self, consumer: Consumer) -> None:
        """What gets the messages is there."""
        with self._lock:
            self._consumer = consumer
            if not self._open:
                self._tell(consumer)

    def set_open(self, wanted: bool) -> None:
        """Take messages from now on, or take none."""
        with self._lock:
            if wanted == self._open:
                return
            self._open = wanted
            if self._consumer is not None:
                self._tell(self._consumer)

    def _tell(self, consumer: Consumer) -> None:
        # The consumer's own thread alone may talk to the broker.
        change = consumer.add_task_queue if self._open else consumer.cancel_task_queue
        consumer.call_soon(change, QUEUE_NAME)


def gate(intake: Intake) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer, which begins again with each connection: before a message is taken, the
    ``intake`` is asked, too (as ``worker_disable_prefetch`` has the pool asked)."""

    class Gate(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            qos = parent.task_consumer.channel.qos
            asked_before = qos.can_consume
            qos.can_consume = MethodType(lambda _: intake.has_room and asked_before(), qos)

    return Gate
