"""Whether clocks agree: leases are times that one host writes and another compares with its own."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.cli.doctor.finding import Finding, failed, ok, warning
from app.cli.doctor.shared import PROBES, database_is_there
from app.core.db import get_engine, read_session
from app.core.queue import BROKER_ERRORS, broker_client
from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.core.store.remote import QUICK, remote
from app.core.tables import InferenceWorker, TrainingWorker

#: What networks and pauses of processes may come to.
_NOISE_SECONDS = 1.0
_SYNCHRONISE = "synchronise the clocks of this host and that one with NTP (chrony, systemd-timesyncd)"


def clocks() -> Iterator[Finding]:
    """This host's clock against those of the others that can be asked."""
    behind = list(filter(None, (_look("database", _database), _look("broker", _broker), _store())))
    behind += _workers()
    limit = (get_settings().lease_seconds - get_settings().heartbeat_seconds) / 2
    wrong = [(name, offset) for name, offset, noise in behind if abs(offset) > noise]
    if not wrong:
        compared = ", ".join(name for name, _, _ in behind)
        yield ok("clock", f"agrees with {compared}" if compared else "nothing to compare it with")
        return
    text = "; ".join(
        f"{abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} that of the {name}"
        for name, offset in wrong
    )
    if max(abs(offset) for _, offset in wrong) > limit:
        yield failed("clock", f"{text}: valid leases appear expired", _SYNCHRONISE)
    else:
        yield warning("clock", text, f"{_SYNCHRONISE}: beyond {limit:g} s, jobs are taken from their workers")


#: Whose clock, how far it is ahead of ours, and what of that may be the measurement's own, in seconds.
_Offset = tuple[str, float, float]


def _look(name: str, ask: Callable[[], float | None]) -> _Offset | None:
    before = time.time()
    try:
        told = ask()
    except (SQLAlchemyError, *BROKER_ERRORS):
        return None  # told of by its own check
    after = time.time()
    return (
        None if told is None else (name, told - (before + after) / 2, _NOISE_SECONDS + (after - before) / 2)
    )


def _database() -> float | None:
    if get_engine().dialect.name != "postgresql":
        return None
    with read_session() as session:
        return float(session.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)


def _broker() -> float:
    with broker_client() as client:
        told: Any = client.time()
    return told[0] + told[1] / 1e6


def _store() -> _Offset | None:
    """By the time that it gives to an object; to the second, as S3 has it."""
    there = remote(patience=QUICK)
    if there is None or there.url.startswith("file:"):
        return None
    name = f"{PROBES}/{uuid4().hex}"
    before = time.time()
    try:
        there.put_bytes(name, b"")
        after = time.time()
        (stored,) = [one for one in there.list(PROBES) if one.path == name]
        there.remove([name])
    except (StoreError, ValueError):
        return None
    # What it has cut off is half a second, on average.
    offset = stored.modified.timestamp() + 0.5 - (before + after) / 2
    return "store", offset, _NOISE_SECONDS + 0.5 + (after - before) / 2


def _workers() -> list[_Offset]:
    """Those whose heartbeats are of the future."""
    found: list[_Offset] = []
    if not database_is_there():
        return found
    try:
        with read_session() as session:
            for table in (TrainingWorker, InferenceWorker):
                for name, beat in session.execute(select(table.id, table.heartbeat_at)):
                    if (ahead := beat - time.time()) > _NOISE_SECONDS:
                        found.append((f"worker {name}", ahead, _NOISE_SECONDS))
    except SQLAlchemyError:
        return []
    return found
