"""The inference worker's row: how the gateway finds it, and knows that it lives."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from importlib.metadata import version

from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import write_session
from app.core.settings import get_settings
from app.core.tables import InferenceWorker
from app.core.upsert import insert_for
from worker.gpus import inventory
from worker.inference.engines import Engine

log = logging.getLogger(__name__)

#: Rows of workers that ended without removing theirs go after this many leases.
FORGOTTEN_LEASES = 30


class Registration:
    """Keeps the row fresh from :meth:`run` until it is cancelled, then removes it.

    ``describe`` gives the folders that are loaded and how many requests are being answered.
    """

    def __init__(
        self,
        url: str,
        engine: Engine,
        describe: Callable[[], tuple[list[str], int]],
        *,
        heartbeat_seconds: float,
        lease_seconds: float,
    ):
        self.id = f"inference-{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._url = url
        self._described = {
            "engine": engine.name,
            "features": sorted(engine.features),
            "host": socket.gethostname(),
            "version": version("policysplit"),
            "gpus": inventory(get_settings()),
        }
        self._describe = describe
        self._heartbeat_seconds = heartbeat_seconds
        self._forget_seconds = FORGOTTEN_LEASES * lease_seconds
        self._started_at = time.time()
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Write the row soon: the set of loaded models is another."""
        self._changed.set()

    async def run(self) -> None:
        """Write the row now, at each change and at each heartbeat. A database that is away is waited for."""
        try:
            while True:
                self._changed.clear()
                try:
                    await asyncio.to_thread(self._write, *self._describe())
                except SQLAlchemyError as error:
                    log.warning("the heartbeat could not be written: %s", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._heartbeat_seconds)
        finally:
            await asyncio.to_thread(self._remove)

    def _write(self, loaded: list[str], active: int) -> None:
        now = time.time()
        values = {"url": self._url, "heartbeat_at": now, "loaded": loaded, "active": active}
        values |= self._described
        with write_session() as session:
            row = insert_for(session, InferenceWorker).values(
                id=self.id, started_at=self._started_at, **values
            )
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_=values))
            forgotten = InferenceWorker.heartbeat_at < now - self._forget_seconds
            session.execute(delete(InferenceWorker).where(forgotten))

    def _remove(self) -> None:
        try:
            with write_session() as session:
                session.execute(delete(InferenceWorker).where(InferenceWorker.id == self.id))
        except SQLAlchemyError as error:
            log.warning("the row of this inference worker could not be removed: %s", error)
