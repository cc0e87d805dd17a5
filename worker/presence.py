"""Rows by which it is known that a worker is there: of those that train, and of those that serve models."""

import logging
import socket
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import write_session
from app.core.gpus import inventory
from app.core.settings import Settings
from app.core.store.artefacts import cache
from app.core.tables import InferenceWorker, TrainingWorker
from app.core.upsert import insert_for

#: Rows of workers that ended without removing theirs go after this many leases.
FORGOTTEN_LEASES = 30
#: Seconds between looks at the cache, each of which lists all its files.
CACHE_SECONDS = 60.0
_log = logging.getLogger(__name__)


def facts(settings: Settings) -> dict[str, object]:
    """What the row of any worker says of where it is."""
    return {
        "host": socket.gethostname(),
        "version": version("policysplit"),
        "gpus": inventory(settings),
        "started_at": time.time(),
    }


class CacheUse:
    """How full this host's cache of the store is, at most ``CACHE_SECONDS`` ago."""

    def __init__(self) -> None:
        self._until = 0.0
        self._seen: dict[str, int | None] | None = None

    def seen(self) -> dict[str, int | None] | None:
        """What a worker's row says of it; None: there is no store."""
        if time.monotonic() >= self._until:
            mine = cache()
            self._seen = None if mine is None else mine.use()
            self._until = time.monotonic() + CACHE_SECONDS
        return self._seen


def write_row(
    table: type[TrainingWorker] | type[InferenceWorker],
    worker_id: str,
    at_first: Mapping[str, object],
    each_time: Mapping[str, object],
    *returned: Any,
    lease_seconds: float,
) -> tuple[Any, ...]:
    """Write the worker's row, ``at_first`` only where there is none; what is to be ``returned`` of it.

    Rows of the table's workers that are long gone are removed.
    """
    now = time.time()
    changed = {"heartbeat_at": now, **each_time}
    with write_session() as session:
        row = insert_for(session, table).values({"id": worker_id, **at_first, **changed})
        kept = row.on_conflict_do_update(index_elements=["id"], set_=changed)
        found = session.execute(kept.returning(table.id, *returned)).one()
        forgotten = now - FORGOTTEN_LEASES * lease_seconds
        session.execute(delete(table).where(table.heartbeat_at < forgotten))
    return found[1:]


def remove_row(table: type[TrainingWorker] | type[InferenceWorker], worker_id: str) -> None:
    """Remove it: the worker has ended. Where the database is away, others do so later."""
    try:
        with write_session() as session:
            session.execute(delete(table).where(table.id == worker_id))
    except SQLAlchemyError as error:
        _log.warning("the row of this worker could not be removed: %s", error)
