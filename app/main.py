"""The control plane: ``uvicorn --factory app.main:served_app``."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app.audit.endpoints import router as audit
from app.checkpoints.permissions_endpoints import router as permissions
from app.core import error_handlers, health, tracing
from app.core.db import close_engine, get_engine
from app.core.description import describe
from app.core.errors import ErrorBody
from app.core.middleware import RequestContext
from app.core.migrate import schema_standing
from app.core.private import keep_private, tighten_if_open
from app.core.quick_reads import QuickReads
from app.core.settings import get_settings
from app.core.shares import Shares
from app.core.traced_requests import TraceRequests
from app.dashboard.endpoints import router as dashboard
from app.estimates.endpoints import router as estimates
from app.evals.endpoints import router as evals
from app.experiments.endpoints import router as experiments
from app.files.endpoints import router as files
from app.files.storage import remove_stale_uploads
from app.graders.endpoints import router as graders
from app.graders.lane import Lane
from app.inference.endpoints import router as inference
from app.jobs.attempts import router as attempts
from app.jobs.checkpoints import router as checkpoints
from app.jobs.endpoints import router as jobs
from app.jobs.events_endpoints import router as events
from app.jobs.prompt_lengths import router as prompt_lengths
from app.jobs.replays import router as replays
from app.jobs.watch import JobWatch
from app.keys.endpoints import router as keys
from app.keys.rate import RateLimiter
from app.keys.require_key import RequireKey
from app.keys.service import is_keyless
from app.keys.uses import Uses
from app.metrics.endpoints import router as metrics
from app.models.endpoints import router as models
from app.monitoring.endpoints import router as monitoring
from app.monitoring.requests import CountRequests
from app.rollouts.endpoints import router as rollouts
from app.signin.endpoints import router as signin
from app.storage.endpoints import router as storage
from app.usage.endpoints import router as usage
from app.webhooks.deliverer import deliver_for_ever
from app.webhooks.endpoints import router as webhooks
from app.webhooks.service import seal_secrets_anew
from app.workers.endpoints import router as workers

#: Of the 40 threads that answer requests, so that other projects find one; and what waits for its turn.
THREADS_OF_A_PROJECT = 24
WAITING_OF_A_PROJECT = 500
_log = logging.getLogger("app")


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
    await run_in_threadpool(_start)
    deliverer = asyncio.create_task(deliver_for_ever())
    reads, watch, uses = QuickReads(), JobWatch(), Uses()
    writer = asyncio.create_task(uses.write_for_ever())
    rates = RateLimiter(get_settings().resolved_broker_url)
    grading, threads = Lane(), Shares("requests", THREADS_OF_A_PROJECT, WAITING_OF_A_PROJECT)
    yield {
        "quick_reads": reads,
        "job_watch": watch,
        "rates": rates,
        "key_uses": uses,
        "grading": grading,
        "threads": threads,
    }
    grading.close()
    for task in (deliverer, writer):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await uses.write()
    await rates.close()
    await watch.close()
    await reads.close()
    close_engine(get_engine())


@asynccontextmanager
async def _lifespan_of_a_process(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    """Of an application that has its process to itself.

    What was made until now stays until the end. Garbage collection would look through all of it over and
    over, and no request is answered meanwhile: 0.2 s where many clients come at once.
    """
    async with _lifespan(app) as state:
        gc.collect()
        gc.freeze()
        yield state


def served_app() -> FastAPI:
    """The application of a server's process."""
    return create_app(_lifespan_of_a_process)


def create_app(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[dict[str, object]]] = _lifespan,
) -> FastAPI:
    """The application. Settings are read here and in requests, never at import."""
    app = FastAPI(
        title="Policysplit",
        summary="Reinforcement fine-tuning of dual-mode language models, in OpenAI's wire format",
        lifespan=lifespan,
        servers=[{"url": "/", "description": "This service"}],
        # Short, for clients that are made of the description: they name functions by it.
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,  # ours: app.dashboard.reference
        redoc_url=None,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    # The last one added is the outermost.
    app.add_middleware(RequireKey)
    app.add_middleware(RequestContext)
    if tracing.is_wanted():
        tracing.set_up("api")
        app.add_middleware(TraceRequests)
    app.add_middleware(CountRequests)
    describe(app, is_keyless)
    error_handlers.install(app)
    app.include_router(inference)  # first: routes are tried in their order, and this is asked most
    app.include_router(health.router)
    app.include_router(monitoring)
    app.include_router(dashboard)
    app.include_router(signin)
    for router in (
        files,
        prompt_lengths,
        estimates,
        jobs,
        attempts,
        replays,
        events,
        checkpoints,
        permissions,
        metrics,
        rollouts,
        graders,
        evals,
        experiments,
        models,
        webhooks,
        storage,
        keys,
        audit,
        usage,
        workers,
    ):
        app.include_router(router)
    return app


def _start() -> None:
    """A schema that is not at head is reported by /readyz and here; the process stays, so that it can be
    upgraded under it."""
    keep_private()
    if changed := tighten_if_open(get_settings().data_dir):
        _log.warning(
            "%d files and folders of the data directory were open to other users; closed them", changed
        )
    try:
        problem = schema_standing().problem
        if problem is None and is_keyless():
            _log.warning("there are no keys yet: only requests from this machine are answered")
        if problem is None:
            seal_secrets_anew()
        if warning := health.connections_warning():
            _log.warning(warning)
    except SQLAlchemyError as error:
        problem = f"the database does not answer: {error}"
    if problem:
        _log.error("not ready: the schema is %s", problem)
    remove_stale_uploads()
