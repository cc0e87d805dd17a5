"""One sample from an inference worker, as events rather than as an engine's dialect of server-sent events."""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from pydantic_core import from_json

from app.core.errors import ApiError, NotFound, Unavailable
from app.core.settings import get_settings
from app.inference.engine_request import EngineRequest
from app.inference.errors import EngineFailed, NoInferenceWorker, translated
from app.inference.gateway import Gateway
from app.inference.repository import Worker
from app.inference.stops import StopFilter
from app.inference.text_logprobs import TextLogprobs, Told
from app.models.catalog import is_model
from trainer.system import logs

# transformers serve does not escape the message of an error in a stream.
_UNESCAPED_ERROR = re.compile(r'^\{"error": "(.*)"\}$', re.DOTALL)
#: Refusals that another inference worker need not share: it has other disks, memory, engines.
_OWN = frozenset({"insufficient_memory", "model_missing", "engine_unavailable", "prompt_mismatch"})
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. ``delta``: what there is beside text, as chunks have it: thoughts, tool calls.

    ``is_prompt``: not of the answer, but of the prompt before it; ``logprobs`` alone.
    """

    text: str = ""
    delta: Told | None = None
    logprobs: Told | None = None
    is_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


Event = Piece | Finish


async def sample(
    gateway: Gateway,
    workers: list[Worker],
    needs: frozenset[str],
    request: EngineRequest,
    traceparent: str | None = None,
) -> AsyncGenerator[Event]:
    """The events of one answer from the first of ``workers`` that can give it.

    One that ends before it has told anything of the answer is passed over, too: the seed makes another's the
    same. Where none can be reached, those that have come meanwhile and have the features ``needs`` are asked:
    one that was started anew. Raises an ApiError. Ends with a Finish.
    """
    body = request.model_dump_json().encode()
    settings = get_settings()
    # Long enough for a cold start and then a slow first token: past it something hangs.
    timeout = aiohttp.ClientTimeout(
        None, sock_connect=5.0, sock_read=settings.engine_start_seconds + settings.engine_stall_seconds
    )
    # What is logged there names the request as what is logged here does.
    headers = _JSON | {"x-request-id": logs.known().get("request", "")}
    if traceparent is not None:
        headers["traceparent"] = traceparent
    refusal: ApiError | None = None
    ranked = gateway.ranked(workers, request.folder)
    gateway.widen(ranked, request.folder, settings.inference_spread_requests)
    is_told = False
    for worker in ranked:  # which may grow
        with gateway.counted(worker):
            try:
                async with gateway.session.post(
                    f"{worker.url}/samples", data=body, headers=headers, timeout=timeout
                ) as response:
                    if response.status != 200:
                        refusal = _refusal(await response.read(), response)
                        if refusal.code in _OWN:
                            continue
                        raise refusal
                    gateway.answered(worker, request.folder)
                    # An engine that takes stop sequences off by itself names the feature.
                    stops = StopFilter([] if "stop" in worker.features else request.stop)
                    async for event in _events(response.content, stops):
                        is_told = True
                        yield event
                return
            except (aiohttp.ServerTimeoutError, TimeoutError) as error:
                raise Unavailable("The model did not answer in time.", code="engine_timeout") from error
            except (aiohttp.ClientError, ConnectionError) as error:
                if not isinstance(error, aiohttp.ClientConnectorError):
                    refusal = Unavailable("The inference worker ended while answering.", code="engine_lost")
                if is_told:
                    raise (refusal or NoInferenceWorker()) from error
                gateway.directory.drop(worker)
                if worker is ranked[-1]:
                    known = {one.id for one in ranked}
                    now = [w for w in await gateway.directory.workers() if w.features >= needs]
                    ranked += gateway.ranked([w for w in now if w.id not in known], request.folder)
    if refusal is not None and refusal.code == "model_missing" and not is_model(Path(request.folder)):
        raise NotFound(
            "The model's weights are gone: they were removed from the disk during the request.",
            param="model",
            code="model_not_found",
        )
    raise refusal or NoInferenceWorker()


async def _events(stream: aiohttp.StreamReader, stops: StopFilter) -> AsyncIterator[Event]:
    reason: str | None = None
    usage: Told = {}
    text_logprobs = TextLogprobs()
    buffered = b""
    async for received in stream.iter_any():
        *lines, buffered = (buffered + received).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:") or (data := line[5:].strip()) == b"[DONE]":
                continue
            chunk = _parsed(data)
            usage = chunk.get("usage") or usage
            text_logprobs.hidden = chunk.get("prefix") or text_logprobs.hidden
            for choice in chunk.get("choices") or ():
                if "delta" not in choice and choice.get("logprobs"):
                    prompt, choice["logprobs"] = text_logprobs.split(choice)
                    if prompt is not None:
                        yield Piece(logprobs=prompt, is_prompt=True)
                if (piece := _piece(choice, stops)) is not None:
                    yield piece
                reason = choice.get("finish_reason") or reason
    if reason is None:
        raise Unavailable("The engine ended while answering.", code="engine_lost")
    if rest := stops.flush():
        yield Piece(text=rest)
    yield Finish(
        reason="stop" if stops.stopped else reason,
        prompt_tokens=int(usage.get("prompt_tokens", 0)),
        completion_tokens=int(usage.get("completion_tokens", 0)),
    )


def _piece(choice: Told, stops: StopFilter) -> Piece | None:
    """What a choice of a chunk adds, of a chat's or of a raw prompt's; None: nothing."""
    delta = choice.get("delta")
    if delta is None:
        text, other = choice.get("text"), None
    else:
        text, other = delta.get("content"), None
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            other = {"reasoning_content": thought}
        if calls := delta.get("tool_calls"):
            other = {**(other or {}), "tool_calls": calls}
    text = stops.feed(text) if text else ""
    logprobs = choice.get("logprobs")
    return Piece(text, other, logprobs) if text or other or logprobs else None


def _parsed(data: bytes) -> Told:
    """A chunk of the stream. Raises the ApiError that it may carry instead."""
    try:
        chunk = from_json(data)
    except ValueError:
        text = data.decode(errors="replace")
        unescaped = _UNESCAPED_ERROR.match(text)
        raise translated(unescaped[1] if unescaped else text) from None
    if not isinstance(chunk, dict):
        raise EngineFailed(f"The engine sent {data[:200]!r}, which is not a chunk of an answer.")
    if "error" in chunk:
        raise translated(chunk["error"])
    return chunk


def _refusal(body: bytes, response: aiohttp.ClientResponse) -> ApiError:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return translated(from_json(body)["error"], response.headers.get("retry-after"))
    return EngineFailed(f"The inference worker answered with status {response.status}.")
