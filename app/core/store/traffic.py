"""What goes to and from the store, counted: requests, seconds, bytes, and what was at hand."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from app.core.counting import COUNTED, LONG_SECONDS

_REQUESTS = Counter(
    "policysplit_store_requests",
    "Requests to the artefact store by operation and outcome; retries count once",
    ["operation", "outcome"],
    registry=COUNTED,
)
_SECONDS = Histogram(
    "policysplit_store_seconds",
    "Seconds per request to the artefact store, including retries",
    ["operation"],
    buckets=LONG_SECONDS,
    registry=COUNTED,
)
_BYTES = Counter(
    "policysplit_store_bytes", "Bytes sent to and received from the store", ["direction"], registry=COUNTED
)
_LOOKED_UP = Counter(
    "policysplit_store_cache_lookups",
    "Folders requested: in the cache (hit), or to be fetched (miss)",
    ["result"],
    registry=COUNTED,
)
_EVICTED = Counter("policysplit_store_cache_evictions", "Folders evicted from the cache", registry=COUNTED)
_EVICTED_BYTES = Counter(
    "policysplit_store_cache_evicted_bytes", "Bytes of folders evicted from the cache", registry=COUNTED
)


@contextmanager
def asked(operation: str) -> Iterator[None]:
    """One request. It has failed where an exception leaves the block, whose class says how."""
    began, outcome = time.perf_counter(), "ok"
    try:
        yield
    except Exception as error:
        outcome = type(error).__name__
        raise
    finally:
        _REQUESTS.labels(operation, outcome).inc()
        _SECONDS.labels(operation).observe(time.perf_counter() - began)


def sent(size: int) -> None:
    """So many bytes went up."""
    _BYTES.labels("up").inc(size)


def got(size: int) -> None:
    """So many bytes came down."""
    _BYTES.labels("down").inc(size)


def looked_up(*, hit: bool) -> None:
    """Somebody wanted a folder, and it was at hand or was not."""
    _LOOKED_UP.labels("hit" if hit else "miss").inc()


def evicted(size: int) -> None:
    """A folder went to make room."""
    _EVICTED.inc()
    _EVICTED_BYTES.inc(size)
