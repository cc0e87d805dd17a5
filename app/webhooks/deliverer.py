"""Delivers what the outbox holds, in the background of every API process; any number may run at once.

A delivery is claimed by moving its next attempt into the future, so a process that dies loses nothing: the
delivery is due again. Receivers may see an event twice and tell by its id.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import WebhookAttempt, WebhookDelivery
from app.webhooks import repository
from app.webhooks.outbox import DELIVERED, FAILED
from app.webhooks.repository import Due
from app.webhooks.sending import Outcome, send, webhook_client

#: Requests in flight.
CONCURRENCY = 32
#: Longer than any attempt: after it a delivery counts as taken by a process that died.
HOLD_SECONDS = 60.0
_JITTER = 0.1
_PURGE_SECONDS = 3600.0

T = TypeVar("T")

_log = logging.getLogger("app")


async def deliver_for_ever() -> None:
    """Until cancelled."""
    async with webhook_client() as client, asyncio.TaskGroup() as group:
        group.create_task(_purge_for_ever())
        free = asyncio.Semaphore(CONCURRENCY)
        while True:
            found = await _take_some(CONCURRENCY)
            for due in found:
                await free.acquire()
                group.create_task(_attempt(client, due)).add_done_callback(lambda _: free.release())
            if not found:
                await asyncio.sleep(get_settings().webhook_poll_seconds)


async def _purge_for_ever() -> None:
    """The log does not grow for ever."""
    while True:
        try:
            await _to_its_end(purge)
        except SQLAlchemyError as error:
            _log.warning("old webhook deliveries cannot be removed: %s", error)
        await asyncio.sleep(_PURGE_SECONDS)


def purge() -> int:
    """Remove the deliveries that are over and older than ``webhook_log_days``; how many."""
    before, total = time.time() - get_settings().webhook_log_days * 24 * 3600, 0
    while True:
        with write_session() as session:
            removed = repository.remove_over(session, before)
        total += removed
        if not removed:
            return total


async def _take_some(limit: int) -> list[Due]:
    try:
        return await _to_its_end(take_due, limit)
    except SQLAlchemyError as error:
        # Away, or not migrated yet: neither ends the deliveries.
        _log.warning("webhook deliveries cannot be read: %s", error)
        return []


def take_due(limit: int) -> list[Due]:
    """Claim up to ``limit`` deliveries that are due."""
    # Most of the times there are none, and a reader takes no write lock on SQLite.
    with read_session() as session:
        if not repository.any_due(session):
            return []
    with write_session() as session:
        return repository.take(session, limit, HOLD_SECONDS)


async def _to_its_end(work: Callable[..., T], *args: object) -> T:
    """``work(*args)`` in a thread; whoever is cancelled goes on only when it has left the database."""
    thread = asyncio.ensure_future(run_in_threadpool(work, *args))
    try:
        return await asyncio.shield(thread)
    finally:
        if not thread.done():
            await asyncio.wait([thread])


async def _attempt(client: httpx.AsyncClient, due: Due) -> None:
    try:
        outcome = await send(client, due)
        await _to_its_end(record, due, outcome)
    except Exception:
        # One delivery must not end all others; it is due again when the hold runs out.
        _log.exception("webhook delivery %s could not be attempted or recorded", due.id)


def record(due: Due, outcome: Outcome) -> None:
    """Log the attempt and set the next one, if there is to be one."""
    waits = get_settings().webhook_retry_seconds
    with write_session() as session:
        row = session.get(WebhookDelivery, due.id, with_for_update=True)
        if row is None:
            return  # its endpoint was deleted meanwhile
        session.add(
            WebhookAttempt(
                delivery_id=row.id,
                created_at=time.time(),
                seconds=outcome.seconds,
                status_code=outcome.status_code,
                error=outcome.error,
            )
        )
        # 410 says that nothing is wanted any more.
        over = due.attempts > len(waits) or outcome.status_code == 410
        if outcome.delivered or over:
            row.status = DELIVERED if outcome.delivered else FAILED
            row.next_attempt_at = None
        else:
            wait = waits[due.attempts - 1] * (1 + random.uniform(-_JITTER, _JITTER))
            row.next_attempt_at = time.time() + wait
