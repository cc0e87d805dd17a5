"""One request through one engine: wait for the engine and for a turn, then pass its bytes on as they come."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import NoReturn

import aiohttp
from pydantic_core import to_json

from app.core import tracing
from app.inference.engine_request import EngineRequest
from worker.inference.child import EngineProcess
from worker.inference.engines import Call, Engine
from worker.inference.errors import EngineFailed, EngineUnavailable, InferenceError, RequestRefused
from worker.inference.pool import EnginePool, Loaded
from worker.inference.prefixes import joined

log = logging.getLogger(__name__)

BARRIER_SECONDS = 60.0
#: How long the reason of a failed request may take from the engine's log into ours.
EXPLAIN_SECONDS = 1.0
#: How long an engine that has just failed may take to say that it is well.
HEALTH_SECONDS = 10.0
#: An error in a stream; text that says this has its quotes escaped.
_ERROR = b'data: {"error"'
_JSON = {"content-type": "application/json"}


class Started:
    """The engine accepted the request; its bytes follow."""


Item = Started | bytes | InferenceError | None
"""What a relay puts out: Started, bytes, then None; an InferenceError may take any place and ends it."""


class Relay:
    """Runs requests on the pool's engines.

    The engine's bytes go to a queue rather than straight to the client, so that a slow client does not hold
    the engine's turn; an answer is never longer than its ``max_tokens``.
    """

    def __init__(self, engine: Engine, pool: EnginePool, stall_seconds: float):
        self._engine = engine
        self._pool = pool
        self._timeout = aiohttp.ClientTimeout(None, sock_connect=10.0, sock_read=stall_seconds)

    async def run(self, request: EngineRequest, out: asyncio.Queue[Item]) -> None:
        """Answer ``request`` into ``out``. Cancelling this cancels the generation."""
        try:
            async with self._pool.use(request.folder) as (loaded, target), loaded.turn:
                # In a thread: what it reads of the model's folder may take a while, the first time.
                here = request.model_copy(update={"folder": str(target.folder)})
                here, prefix = await asyncio.to_thread(joined, here)
                call = await asyncio.to_thread(self._engine.call, here, target.adapter)
                await self._generate(loaded, call, prefix, out)
            out.put_nowait(None)
        except InferenceError as error:
            out.put_nowait(error)
        except Exception:
            log.exception("a request failed")
            out.put_nowait(EngineFailed("The inference worker failed on this request."))

    async def _generate(
        self, loaded: Loaded, call: Call, prefix: tuple[int, int], out: asyncio.Queue[Item]
    ) -> None:
        child = loaded.child
        mark = child.mark()
        complete = False
        trace = tracing.current()
        headers = _JSON if trace is None else _JSON | {"traceparent": trace}
        try:
            async with child.client.post(
                call.path, data=to_json(call.body), headers=headers, timeout=self._timeout
            ) as response:
                if response.status != 200:
                    said = await response.read()
                    complete = True
                    if response.status >= 500 and not await self._is_well(child):
                        await self._give_up(loaded)
                    raise await self._explain(loaded.host.folder, child, mark, response.status, said)
                out.put_nowait(Started())
                if prefix[1]:
                    out.put_nowait(b"data: " + to_json({"prefix": prefix}) + b"\n\n")
                async for chunk in response.content.iter_any():
                    if _ERROR in chunk and not await self._is_well(child):
                        await self._give_up(loaded)
                    out.put_nowait(chunk)
            complete = loaded.answered = True
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            complete = True
            await self._pool.restart(loaded)
            raise EngineUnavailable(
                "the engine stopped answering and was restarted", retry_after=1.0
            ) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            complete = True
            if not await self._is_well(child):
                await self._pool.restart(loaded)
            raise EngineUnavailable("the engine ended while answering", retry_after=1.0) from error
        finally:
            if not complete:
                await self._settle(child)

    async def _is_well(self, child: EngineProcess) -> bool:
        """After a failure: whether the engine can go on. vLLM outlives its own core for a while."""
        if child.ended.is_set():
            return False
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            async with child.client.get(
                self._engine.health_path, timeout=aiohttp.ClientTimeout(HEALTH_SECONDS)
            ) as answer:
                return answer.status == 200
        return False

    async def _give_up(self, loaded: Loaded) -> NoReturn:
        await self._pool.restart(loaded)
        raise EngineUnavailable("the engine ended while answering", retry_after=1.0)

    async def _settle(self, child: EngineProcess) -> None:
        """After a cancelled request: return when the engine has really stopped working on it."""
        barrier = self._engine.barrier()
        if barrier is None:
            return
        timeout = aiohttp.ClientTimeout(BARRIER_SECONDS)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            async with child.client.post(barrier.path, json=barrier.body, timeout=timeout) as answer:
                await answer.read()

    async def _explain(
        self, folder: Path, child: EngineProcess, mark: int, status: int, said: bytes
    ) -> InferenceError:
        """The error that stands behind an engine's refusal."""
        if status == 503:
            return EngineUnavailable("the engine is not ready", retry_after=1.0)
        if status < 500:
            return self._engine.refusal(status, said)
        try:
            await asyncio.to_thread(self._engine.target, folder)
        except InferenceError as gone:  # since it was loaded
            return gone
        deadline = asyncio.get_running_loop().time() + EXPLAIN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if reason := self._engine.refusal_in_log(child.printed_since(mark)):
                return RequestRefused(reason, param="messages")
            await asyncio.sleep(0.02)  # the log comes through a pipe, after the answer
        log.error("the engine answered %d: %s", status, child.cause())
        return EngineFailed("The engine failed on this request; see the inference worker's log.")
