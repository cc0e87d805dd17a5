"""Takes runs of evals, some at a time, and has their items answered, graded and written down.

Threads of their own look for runs, and no message wakes them: the models answer on inference workers and at
endpoints, so that a run takes nothing of what jobs wait for, and must not wait behind a job of days. What a
run has done is in its rows. It is gone on with by whoever takes it next: after a pause, a restart, a lost
worker.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.evals.asking import Asking
from app.evals.data_sources import JsonlRun
from app.evals.rows import EvalRow
from app.inference.gateway import open_gateway
from worker.evals.answers import Answer, Answering, Given, OfEndpoint, OfService
from worker.evals.errors import RunFailed, Stopped
from worker.evals.grading import Criteria, Verdict
from worker.evals.held import HeldRun, Loaded, claim
from worker.intake import Intake
from worker.lease import LeaseLost
from worker.shutdown import Shutdown

LOOK_SECONDS = 1.0
FLAG_SECONDS = 1.0
#: Answers that are graded together.
TOGETHER = 32
_AWAY_SECONDS = 1.0
_log = logging.getLogger(__name__)

T = TypeVar("T")


def start_evals(owner: str, shutdown: Shutdown, intake: Intake) -> list[threading.Thread]:
    """As many threads as runs may be under way; they take none while the worker drains."""
    threads = [
        threading.Thread(target=_run, args=(owner, shutdown, intake), name=f"evals-{slot}", daemon=True)
        for slot in range(get_settings().eval_slots)
    ]
    for thread in threads:
        thread.start()
    return threads


def _run(owner: str, shutdown: Shutdown, intake: Intake) -> None:
    while not shutdown.requested:
        try:
            if intake.open and run_next(owner, shutdown) is not None:
                continue
        except (OperationalError, InterfaceError) as error:
            _log.warning("the database cannot be reached: %s", error.orig)
        except Exception:
            # A run that fails in a way that nobody foresaw must not end all later ones.
            _log.exception("looking for an eval run failed")
        shutdown.wait(LOOK_SECONDS)


def run_next(owner: str, shutdown: Shutdown) -> str | None:
    """Take the next run and go on with it to its end, or until it is to stop; its id, or None for none."""
    if shutdown.requested or (taken := claim(owner)) is None:
        return None
    held = HeldRun(taken)
    try:
        try:
            if held.is_last_attempt_over:
                text = f"Its worker was lost {taken.attempt - 1} times."
                raise RunFailed("worker_lost", text)
            asyncio.run(_Execution(held, shutdown).run())
            held.complete()
        except Stopped as stopped:
            _stop(held, stopped)
        except RunFailed as failed:
            held.end("failed", failed.error)
        except (LeaseLost, OperationalError, InterfaceError):
            raise
        except Exception:
            _log.exception("%s failed", taken.id)
            held.end("failed", {"code": "internal_error", "message": "The worker failed; its log says why."})
    except LeaseLost as lost:
        _log.warning("%s; nothing more of it is recorded", lost)
    return taken.id


def _stop(held: HeldRun, stopped: Stopped) -> None:
    match stopped.why:
        case "canceled":
            held.end("canceled")
        case "paused":
            held.give_back("paused")
        case "shutdown":
            held.give_back("queued")


class _Execution:
    """One worker's turn at a run: items are answered side by side, graded together as they come, written."""

    def __init__(self, held: HeldRun, shutdown: Shutdown):
        self._held, self._shutdown = held, shutdown
        self._ended = threading.Event()
        self._answered: asyncio.Queue[tuple[EvalRow, Answer] | None] = asyncio.Queue(TOGETHER)

    async def run(self) -> None:
        """Return when all items are done. Raises Stopped, RunFailed, LeaseLost."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                await self._work()
                watching.cancel()
        except BaseExceptionGroup as errors:
            # One is enough to say why; a failure of the run goes before what it may have caused.
            raise next(iter(_leaves(errors))) from None
        finally:
            self._ended.set()

    async def _watch(self) -> None:
        """Keep the lease, and end the work when it is to stop."""
        settings = get_settings()
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(min(FLAG_SECONDS, settings.heartbeat_seconds))
            if self._shutdown.requested:
                raise Stopped("shutdown")
            try:
                await asyncio.to_thread(self._held.check)
                if time.monotonic() - renewed >= settings.heartbeat_seconds:
                    await asyncio.to_thread(self._held.renew)
                    renewed = time.monotonic()
            except (OperationalError, InterfaceError) as error:
                _log.warning("%s: the lease cannot be renewed: %s", self._held.claim.id, error.orig)

    async def _work(self) -> None:
        await asyncio.to_thread(self._held.check)
        loaded = await asyncio.to_thread(self._held.load)
        if len(loaded.done) == loaded.total:
            return
        criteria = await asyncio.to_thread(Criteria, loaded.criteria)
        try:
            async with _answering(loaded) as answering, asyncio.TaskGroup() as group:
                group.create_task(self._answer_all(loaded, answering))
                group.create_task(self._grade_all(loaded, criteria))
        finally:
            self._ended.set()
            await asyncio.to_thread(criteria.close)

    async def _answer_all(self, loaded: Loaded, answering: Answering) -> None:
        rows = loaded.rows()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(get_settings().eval_concurrency):
                    group.create_task(self._answer_some(rows, answering))
        except* StoreError as errors:
            raise RunFailed(
                "store_unavailable", f"The file cannot be read: {errors.exceptions[0]}."
            ) from None
        await self._answered.put(None)

    async def _answer_some(self, rows: Iterator[EvalRow], answering: Answering) -> None:
        for row in rows:  # which others take from, too
            await self._answered.put((row, await answering.answer(row)))

    async def _grade_all(self, loaded: Loaded, criteria: Criteria) -> None:
        while (first := await self._answered.get()) is not None:
            some, last = [first], False
            while len(some) < TOGETHER and not self._answered.empty():
                if (more := self._answered.get_nowait()) is None:
                    last = True
                    break
                some.append(more)
            answers = [answer for _, answer in some]
            verdicts = await asyncio.to_thread(criteria.verdicts, answers, self._go_on)
            done = [(*pair, verdict) for pair, verdict in zip(some, verdicts, strict=True)]
            await self._write(loaded, done)
            if last:
                return

    async def _write(self, loaded: Loaded, done: list[tuple[EvalRow, Answer, Verdict]]) -> None:
        """A database that is away for a while is waited for: the lease says how long."""
        until = time.monotonic() + get_settings().lease_seconds
        while True:
            try:
                await asyncio.to_thread(self._held.add, loaded, done)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > until:
                    raise
                _log.warning("%s: its items cannot be written: %s", self._held.claim.id, error.orig)
            await asyncio.sleep(_AWAY_SECONDS)

    def _go_on(self) -> None:
        """Asked by graders every second, in their thread."""
        if self._ended.is_set():
            raise Stopped("shutdown")


@asynccontextmanager
async def _answering(loaded: Loaded) -> AsyncIterator[Answering]:
    """What answers the run's items."""
    source = loaded.source
    if isinstance(source, JsonlRun):
        yield Given()
        return
    asking = Asking(source, loaded.model)
    if source.endpoint is not None:
        answering = OfEndpoint(source, asking, loaded.seed, get_settings().eval_concurrency)
        try:
            yield answering
        finally:
            await asyncio.to_thread(answering.close)
        return
    async with open_gateway() as gateway:
        yield OfService(gateway, loaded.project, asking, loaded.seed)


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in errors.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
