"""The inference worker's row: how the gateway finds it, and knows that it lives."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.core.settings import Settings
from app.core.tables import InferenceWorker
from worker.inference.engines import Engine
from worker.presence import CacheUse, facts, remove_row, write_row

log = logging.getLogger(__name__)


class Registration:
    """Keeps the row fresh from :meth:`run` until it is cancelled, then removes it.

    ``describe`` gives the folders that are loaded and how many requests are being answered.
    """

    def __init__(
        self,
        url: str,
        engine: Engine,
        describe: Callable[[], tuple[list[str], int]],
        settings: Settings,
    ):
        self.id = f"inference-{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._facts = facts(settings) | {
            "url": url,
            "engine": engine.name,
            "features": sorted(engine.features),
        }
        self._describe, self._cache = describe, CacheUse()
        self._heartbeat_seconds, self._lease_seconds = settings.heartbeat_seconds, settings.lease_seconds
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
            await asyncio.to_thread(remove_row, InferenceWorker, self.id)

    def _write(self, loaded: list[str], active: int) -> None:
        now = {"loaded": loaded, "active": active, "cache": self._cache.seen()}
        write_row(InferenceWorker, self.id, self._facts, now, lease_seconds=self._lease_seconds)
