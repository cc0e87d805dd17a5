"""Wake-up messages: how the control plane tells some worker that a job waits for it.

A job's row is the truth, and a message says no more than that one waits: one that is lost, repeated or late
changes nothing, because the worker claims the row and the reconciler sends again what was lost.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import update

from app.core.db import write_session
from app.core.settings import get_settings
from app.core.tables import Job

TASK_NAME = "policysplit.run_job"
PROBE_TASK_NAME = "policysplit.run_probe"
QUEUE_NAME = "jobs"
# How long a request waits for a broker that accepts connections and then says nothing.
SOCKET_SECONDS = 2.0
#: What goes wrong with it.
BROKER_ERRORS = (OperationalError, RedisError, OSError)

_log = logging.getLogger(__name__)


def send_wakeup(job_id: str) -> bool:
    """Tell the workers that ``job_id`` is queued. False, with a log line, when the broker cannot be reached.

    Never raises for a broker that is down: the caller has committed the row, and the reconciler sends the
    message later.
    """
    return _send(TASK_NAME, [], job_id)


def send_probe(estimate_id: str) -> bool:
    """Tell the workers of an estimate, likewise."""
    return _send(PROBE_TASK_NAME, [estimate_id], estimate_id)


def _send(task: str, arguments: list[str], subject: str) -> bool:
    url = get_settings().resolved_broker_url
    try:
        _producer(url).send_task(task, args=arguments, queue=QUEUE_NAME, ignore_result=True, retry=False)
    except BROKER_ERRORS as error:
        _log_failure(f"the wake-up message of {subject} was not sent", error)
        return False
    return True


def announce(job_id: str) -> bool:
    """Send the wake-up message of a queued job that is due, and record that it was sent.

    Recorded first: a process that dies in between has its message sent again once it counts as lost. False
    when the job is not queued or not due, or the broker is down.
    """
    now = time.time()
    with write_session() as session:
        due = session.scalar(
            update(Job)
            .where(Job.id == job_id, Job.status == "queued", Job.not_before <= now)
            .values(enqueued_at=now)
            .returning(Job.id)
            .execution_options(synchronize_session=False)
        )
    if due is None:
        return False
    if send_wakeup(job_id):
        return True
    with write_session() as session:
        session.execute(
            update(Job)
            .where(Job.id == job_id, Job.enqueued_at == now)
            .values(enqueued_at=None)
            .execution_options(synchronize_session=False)
        )
    return False


@contextmanager
def broker_client() -> Iterator[Redis]:
    """The broker. Raises one of :data:`BROKER_ERRORS`, also within the block."""
    with _producer(get_settings().resolved_broker_url).pool.acquire(block=True) as connection:
        yield connection.default_channel.client


def broker_alive() -> bool:
    """Whether the broker answers a PING."""
    try:
        with broker_client() as client:
            client.ping()
    except BROKER_ERRORS as error:
        _log_failure("the broker does not answer", error)
        return False
    return True


def queue_length() -> int | None:
    """How many wake-up messages wait for a worker; None when the broker cannot be reached."""
    try:
        with broker_client() as client:
            return int(client.llen(QUEUE_NAME))  # pyright: ignore[reportArgumentType]
    except BROKER_ERRORS as error:
        _log_failure("the length of the queue is unknown", error)
        return None


@lru_cache(maxsize=4)
def _producer(url: str) -> Celery:
    """A Celery application that only sends."""
    app = Celery("policysplit-producer", broker=url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QUEUE_NAME,
        broker_connection_timeout=SOCKET_SECONDS,
        broker_transport_options={
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
            # kombu's own connection retries: none, the caller's request is waiting.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
        },
    )
    return app


def _log_failure(what: str, error: Exception) -> None:
    parts = urlsplit(get_settings().resolved_broker_url)
    place = parts.path if not parts.hostname else f"{parts.hostname}:{parts.port or 6379}"
    _log.warning("%s: broker %s: %s", what, place, error or type(error).__name__)
