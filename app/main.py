"""The control plane: ``uvicorn --factory app.main:create_app``."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from app import error_handlers, health
from app.auth import RequireKey
from app.checkpoints.endpoints import router as checkpoints
from app.checkpoints.permissions_endpoints import router as permissions
from app.dashboard.endpoints import router as dashboard
from app.db import close_engine, get_engine
from app.description import describe
from app.errors import ErrorBody
from app.estimates.endpoints import router as estimates
from app.experiments.endpoints import router as experiments
from app.files.endpoints import router as files
from app.files.storage import remove_stale_uploads
from app.graders.endpoints import router as graders
from app.inference.endpoints import router as inference
from app.jobs.attempts import router as attempts
from app.jobs.endpoints import router as jobs
from app.jobs.events_endpoints import router as events
from app.jobs.replays import router as replays
from app.jobs.watch import JobWatch
from app.keys.rate import RateLimiter
from app.keys.service import has_keys
from app.metrics.endpoints import router as metrics
from app.middleware import RequestContext
from app.models.endpoints import router as models
from app.quick_reads import QuickReads
from app.rollouts.endpoints import router as rollouts
from app.settings import get_settings
from app.storage_use import router as storage
from app.webhooks.deliverer import deliver_for_ever
from app.webhooks.endpoints import router as webhooks

_log = logging.getLogger("app")


def create_app() -> FastAPI:
    """The application. Settings are read here and in requests, never at import."""
    app = FastAPI(
        title="Policysplit",
        summary="Reinforcement fine-tuning of dual-mode language models, in OpenAI's wire format",
        lifespan=_lifespan,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
    )
    # The last one added is the outermost.
    app.add_middleware(RequireKey)
    app.add_middleware(RequestContext)
    describe(app)
    error_handlers.install(app)
    app.include_router(inference)  # first: routes are tried in their order, and this is asked most
    app.include_router(health.router)
    app.include_router(dashboard)
    for router in (
        files,
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
        experiments,
        models,
        webhooks,
        storage,
    ):
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    await run_in_threadpool(_start)
    deliverer = asyncio.create_task(deliver_for_ever())
    reads, watch = QuickReads(), JobWatch()
    rates = RateLimiter(get_settings().resolved_broker_url)
    yield {"quick_reads": reads, "job_watch": watch, "rates": rates}
    deliverer.cancel()
    with suppress(asyncio.CancelledError):
        await deliverer
    await rates.close()
    await watch.close()
    await reads.close()
    close_engine(get_engine())


def _start() -> None:
    """A schema that is not at head is reported by /readyz and here; the process stays, so that it can be
    upgraded under it."""
    try:
        problem = health.schema_problem()
        if problem is None and not has_keys():
            _log.warning("no keys were made: requests of this machine are answered, and no others")
    except SQLAlchemyError as error:
        problem = f"the database does not answer: {error}"
    if problem:
        _log.error("not ready: the schema is %s", problem)
    remove_stale_uploads()
