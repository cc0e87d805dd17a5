"""What one API process keeps for all requests: connections, what it knows, and where requests go."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import aiohttp

from app.accounting.meter import Meter
from app.core.errors import BadRequest
from app.core.own_secrets import inference_token
from app.core.settings import get_settings
from app.core.streaming import cancel
from app.inference.directory import Directory
from app.inference.errors import NoInferenceWorker
from app.inference.repository import Worker

#: Below the time after which servers close a connection that is idle.
KEEPALIVE_SECONDS = 3.0
LOAD_SECONDS = 10.0
#: A worker's row is written anew, and read, within this time.
ANSWERED_SECONDS = 5.0


class Gateway:
    """Reached as ``request.state.gateway``; used on the event loop alone."""

    def __init__(self, session: aiohttp.ClientSession):
        self.session = session
        #: What answers have used, on its way to the books.
        self.meter = Meter()
        self.directory = Directory()
        self._active: Counter[str] = Counter()
        #: Until when an answer says that a worker has a folder loaded: its row says so only a while later.
        self._answered: dict[tuple[str, str], float] = {}
        self._loading: dict[tuple[str, str], asyncio.Task[None]] = {}

    def ranked(self, workers: Iterable[Worker], folder: str) -> list[Worker]:
        """Where to send a request for ``folder``: first where it is loaded, then where least is done."""
        return sorted(
            workers,
            key=lambda worker: (
                not self._has(worker, folder),
                self._load_of(worker),
                len(worker.loaded),
                random.random(),
            ),
        )

    def widen(self, workers: Sequence[Worker], folder: str, requests: int) -> None:
        """Have the model in ``folder`` loaded on one more host when each that has it has ``requests``.

        The request that finds it so does not wait for it; ``workers``, ranked, are those that may have it.
        0: never. A host that has as much to do with other models is left alone.
        """
        having = [worker for worker in workers if self._has(worker, folder)]
        others = [worker for worker in workers if worker not in having]
        if not requests or not having or not others:
            return
        if any((worker.id, folder) in self._loading for worker in others):
            return
        least = min(map(self._load_of, having))
        if least >= requests and 2 * self._load_of(others[0]) <= least:
            self.load(others[0], folder)

    def _has(self, worker: Worker, folder: str) -> bool:
        until = self._answered.get((worker.id, folder), 0.0)
        return folder in worker.loaded or until >= time.monotonic()

    def _load_of(self, worker: Worker) -> int:
        return max(self._active[worker.id], worker.active)

    def answered(self, worker: Worker, folder: str) -> None:
        """``worker`` has just answered for ``folder``."""
        now = time.monotonic()
        self._answered.pop((worker.id, folder), None)
        self._answered[worker.id, folder] = now + ANSWERED_SECONDS
        for key, until in list(self._answered.items()):  # the oldest first
            if until >= now:
                break
            del self._answered[key]

    @contextmanager
    def counted(self, worker: Worker) -> Iterator[None]:
        """Within the block one more request of ours is with ``worker``."""
        self._active[worker.id] += 1
        try:
            yield
        finally:
            self._active[worker.id] -= 1
            if not self._active[worker.id]:
                del self._active[worker.id]

    def load(self, worker: Worker, folder: str) -> None:
        """Ask ``worker`` to load a model that requests will soon be for; does not wait."""
        key = (worker.id, folder)
        if key not in self._loading:
            task = self._loading[key] = asyncio.create_task(self._load(worker, folder))
            task.add_done_callback(lambda _: self._loading.pop(key, None))

    async def _load(self, worker: Worker, folder: str) -> None:
        timeout = aiohttp.ClientTimeout(LOAD_SECONDS)
        # Where it fails, a request for the model will tell why.
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.session.post(f"{worker.url}/load", json={"folder": folder}, timeout=timeout):
                await asyncio.sleep(1.0)  # nor ask again until the worker's row can say that it is loaded

    async def close(self) -> None:
        for task in list(self._loading.values()):
            task.cancel()


@asynccontextmanager
async def open_gateway() -> AsyncIterator[Gateway]:
    """A gateway with its connections."""
    headers = {"authorization": f"Bearer {inference_token(get_settings())}"}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS)
    async with aiohttp.ClientSession(connector=connector, headers=headers, trust_env=False) as session:
        gateway = Gateway(session)
        writing = asyncio.create_task(gateway.meter.write_for_ever())
        try:
            yield gateway
        finally:
            await gateway.close()
            await cancel(writing)
            await gateway.meter.write()


def able(workers: list[Worker], needs: dict[str, str]) -> list[Worker]:
    """The workers whose engines have all that a request needs.

    ``needs``: by feature, the request's field that asks for it. Raises BadRequest naming the field where no
    engine has it, NoInferenceWorker where there is none at all.
    """
    if not workers:
        raise NoInferenceWorker
    found = [worker for worker in workers if worker.features.issuperset(needs)]
    if found:
        return found
    everywhere = frozenset[str]().union(*(worker.features for worker in workers))
    lacking = next((feature for feature in needs if feature not in everywhere), None)
    engines = ", ".join(sorted({worker.engine for worker in workers}))
    if lacking is None:
        raise BadRequest(
            f"No engine here ({engines}) supports {', '.join(needs.values())} together; leave one out.",
            param=next(iter(needs.values())),
            code="unsupported_parameter",
        )
    raise BadRequest(
        f"Unsupported parameter: '{needs[lacking]}'. The engine in use ({engines}) does not support it; "
        "leave it out.",
        param=needs[lacking],
        code="unsupported_parameter",
    )


def is_loaded(workers: Iterable[Worker], folder: str) -> bool:
    """Whether a worker answers for the folder without a start."""
    return any(folder in worker.loaded for worker in workers)
