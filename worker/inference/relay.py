"""One request through one engine: wait for the engine and for a turn, then pass its bytes on as they come."""

import asyncio
import contextlib
import logging
from pathlib import Path

import httpx

from app.inference.engine_request import EngineRequest
from worker.inference.child import EngineProcess
from worker.inference.engines import Engine
from worker.inference.errors import EngineFailed, EngineUnavailable, InferenceError, RequestRefused
from worker.inference.pool import EnginePool, Loaded

log = logging.getLogger(__name__)

BARRIER_SECONDS = 60.0
#: How long the reason of a failed request may take from the engine's log into ours.
EXPLAIN_SECONDS = 1.0


class Started:
    """The engine accepted the request; its bytes follow."""


Item = Started | bytes | InferenceError | None
"""What a relay puts out: Started, bytes, then None; an InferenceError may take any place and ends it."""


class Relay:
    """Runs requests on the pool's engines.

    The engine's bytes go to a queue rather than straight to the client, so that a slow client does not hold
    the engine's turn; an answer is never longer than its ``max_tokens``.
    """

    def __init__(self, engine: Engine, pool: EnginePool, client: httpx.AsyncClient, stall_seconds: float):
        self._engine = engine
        self._pool = pool
        self._client = client
        self._timeout = httpx.Timeout(10.0, read=stall_seconds)

    async def run(self, request: EngineRequest, out: asyncio.Queue[Item]) -> None:
        """Answer ``request`` into ``out``. Cancelling this cancels the generation."""
        try:
            async with self._pool.use(Path(request.folder)) as loaded, loaded.turn:
                await self._generate(loaded, request, out)
            out.put_nowait(None)
        except InferenceError as error:
            out.put_nowait(error)
        except Exception:
            log.exception("a request failed")
            out.put_nowait(EngineFailed("The inference worker failed on this request."))

    async def _generate(self, loaded: Loaded, request: EngineRequest, out: asyncio.Queue[Item]) -> None:
        child = loaded.child
        mark = child.mark()
        complete = False
        try:
            async with self._client.stream(
                "POST",
                child.base_url + "/v1/chat/completions",
                json=self._engine.chat_body(request),
                timeout=self._timeout,
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    complete = True
                    raise await self._explain(child, mark, response)
                out.put_nowait(Started())
                async for chunk in response.aiter_raw():
                    out.put_nowait(chunk)
            complete = loaded.answered = True
        except httpx.TimeoutException as error:
            complete = True
            await self._pool.restart(loaded)
            raise EngineUnavailable(
                "the engine stopped answering and was restarted", retry_after=1.0
            ) from error
        except httpx.TransportError as error:
            complete = True
            raise EngineUnavailable("the engine ended while it answered", retry_after=1.0) from error
        finally:
            if not complete:
                await self._settle(child)

    async def _settle(self, child: EngineProcess) -> None:
        """After a cancelled request: return when the engine has really stopped working on it."""
        barrier = self._engine.barrier()
        if barrier is None:
            return
        path, body = barrier
        with contextlib.suppress(httpx.HTTPError):
            await self._client.post(child.base_url + path, json=body, timeout=BARRIER_SECONDS)

    async def _explain(self, child: EngineProcess, mark: int, response: httpx.Response) -> InferenceError:
        """The error that stands behind an engine's refusal."""
        if response.status_code == 503:
            return EngineUnavailable("the engine is not ready", retry_after=1.0)
        if response.status_code < 500:
            return RequestRefused(f"The engine refused the request: {response.text[:1000]}")
        deadline = asyncio.get_running_loop().time() + EXPLAIN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if reason := self._engine.refusal(child.printed_since(mark)):
                return RequestRefused(reason)
            await asyncio.sleep(0.02)  # the log comes through a pipe, after the answer
        log.error("the engine answered %d: %s", response.status_code, child.cause())
        return EngineFailed("The engine failed on this request; the inference worker's log has the reason.")
