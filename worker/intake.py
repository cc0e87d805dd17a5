"""Whether this worker takes messages. While it drains it leaves them to the others; what runs goes on."""

import threading

from celery.worker.consumer import Consumer

from app.core.queue import QUEUE_NAME


class Intake:
    """Open at first; told from any thread."""

    def __init__(self) -> None:
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
