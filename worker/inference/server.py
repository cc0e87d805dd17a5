"""The inference worker's HTTP interface, for the gateway only."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.routing import Route

from app.core import tracing
from app.core.own_secrets import inference_token
from app.core.settings import Settings
from app.core.streaming import ClientGone, EventStream, WhileConnected, cancel
from app.core.traced_requests import TraceRequests
from app.inference.engine_request import EngineRequest
from app.monitoring.requests import CountRequests
from trainer.system import logs
from worker.figures_server import FiguresServer
from worker.gpus import engine_slots
from worker.inference import load as loads_of
from worker.inference.engines import Engine, build_engine
from worker.inference.errors import InferenceError
from worker.inference.pool import EnginePool
from worker.inference.registration import Registration
from worker.inference.relay import Item, Relay

T = TypeVar("T")
#: How long the event loop may be busy with something else.
ANSWER_SECONDS = 5.0


class LoadRequest(BaseModel):
    """A model folder to load."""

    folder: str


class NotTheGateway(InferenceError):
    """The request does not carry the shared secret."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


def build_app(settings: Settings, url: str, engine: Engine | None = None) -> FastAPI:
    """The application; ``url`` is the address it registers, ``engine`` replaces the settings' one."""
    engine = engine or build_engine(settings)
    gpus = engine_slots(settings)
    expected = f"Bearer {inference_token(settings)}".encode()
    server = FiguresServer(settings.metrics_host, port) if (port := settings.inference_metrics_port) else None
    loads: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registration = Registration(
            url,
            engine,
            lambda: (pool.folders, pool.active),
            settings,
        )
        pool = EnginePool(
            engine,
            memory_bytes=settings.engine_memory_bytes,
            start_seconds=settings.engine_start_seconds,
            gpus=gpus,
            on_change=registration.changed,
        )
        app.state.pool = pool
        app.state.relay = Relay(engine, pool, settings.engine_stall_seconds)
        heartbeat = asyncio.create_task(registration.run())
        if server is not None:
            within = _From(asyncio.get_running_loop())
            server.start(alive=within.turns, more=lambda: within.result(loads_of.told(pool)))
        try:
            yield
        finally:
            await cancel(heartbeat, *loads)
            await pool.close()
            if server is not None:
                await asyncio.to_thread(server.close)

    def only_the_gateway(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), expected):
            raise NotTheGateway("the inference token is missing or wrong")

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    if tracing.is_on():
        app.add_middleware(TraceRequests)
    app.add_middleware(CountRequests)

    @app.exception_handler(InferenceError)
    async def refuse(_request: Request, error: InferenceError) -> JSONResponse:
        return _refusal(error)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/engines", dependencies=[Depends(only_the_gateway)])
    async def engines(request: Request) -> list[dict[str, object]]:
        """The engines that are up, for people and tests."""
        return [
            {
                "folder": str(e.host.folder),
                "pid": e.child.pid,
                "bytes": e.size,
                "requests": e.users,
                "socket": str(e.child.socket),
                "adapters": [] if e.adapters is None else [str(path) for path in e.adapters.loaded],
            }
            for e in request.app.state.pool.loaded
        ]

    @app.post("/load", status_code=202, dependencies=[Depends(only_the_gateway)])
    async def load(body: LoadRequest, request: Request) -> None:
        """Begin to load a model that requests will come for; what goes wrong, they will be told."""
        task = asyncio.create_task(_load(request.app.state.pool, body.folder))
        loads.add(task)
        task.add_done_callback(loads.discard)

    async def sample(request: Request) -> Response:
        """The engine's own stream of chunks, of a chat or of a raw prompt."""
        request.scope["route"] = route  # as FastAPI's own say, for who counts requests
        only_the_gateway(request)
        body = EngineRequest.model_validate_json(await request.body())
        items: asyncio.Queue[Item] = asyncio.Queue()
        with logs.about(request=request.headers.get("x-request-id", "")):
            task = asyncio.create_task(request.app.state.relay.run(body, items))
        try:
            async with WhileConnected(request.receive):
                first = await items.get()
        except BaseException as error:
            await cancel(task)
            if isinstance(error, ClientGone):
                return Response(status_code=499)
            raise
        if isinstance(first, InferenceError):
            return _refusal(first)
        return EventStream(_bytes(items), on_end=lambda: cancel(task))

    # A plain route: what FastAPI would do for each request takes longer than all that is done here.
    route = Route("/samples", sample, methods=["POST"])
    app.router.routes.append(route)
    return app


class _From:
    """The event loop, as another thread asks it."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop

    def result(self, work: Coroutine[object, object, T]) -> T:
        """What comes of it. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    def turns(self) -> bool:
        """Whether it goes on."""
        with contextlib.suppress(TimeoutError):
            self.result(asyncio.sleep(0))
            return True
        return False


async def _load(pool: EnginePool, place: str) -> None:
    with contextlib.suppress(InferenceError):
        async with pool.use(place):
            pass


async def _bytes(items: asyncio.Queue[Item]) -> AsyncIterator[bytes]:
    while isinstance(item := await items.get(), bytes):
        yield item
    if isinstance(item, InferenceError):
        yield b"data: " + JSONResponse(item.body()).body + b"\n\n"


def _refusal(error: InferenceError) -> JSONResponse:
    headers = (
        {"retry-after": str(max(1, round(error.retry_after)))} if error.retry_after is not None else None
    )
    return JSONResponse(error.body(), status_code=error.status, headers=headers)
