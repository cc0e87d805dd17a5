"""One sample from an inference worker, as events rather than as an engine's dialect of server-sent events."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from app.errors import ApiError, Unavailable
from app.inference.engine_request import EngineRequest
from app.inference.errors import EngineFailed, NoInferenceWorker, translated
from app.inference.stops import StopFilter

# transformers serve does not escape the message of an error in a stream.
_UNESCAPED_ERROR = re.compile(r'^\{"error": "(.*)"\}$', re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """A piece of an answer; ``reasoning`` where the engine tells the model's thoughts apart."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Finish:
    """The end of an answer."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


Event = Piece | Finish


async def sample(
    client: httpx.AsyncClient, urls: list[str], request: EngineRequest, timeout: httpx.Timeout
) -> AsyncIterator[Event]:
    """The events of one answer from the first of the inference workers at ``urls`` that can be reached.

    Raises an ApiError. Ends with a Finish.
    """
    body = request.model_dump_json().encode()
    for url in urls:
        try:
            async with client.stream(
                "POST",
                f"{url}/v1/chat/completions",
                content=body,
                headers={"content-type": "application/json"},
                timeout=timeout,
            ) as response:
                if response.status_code != 200:
                    raise _refusal(await response.aread(), response)
                async for event in _events(response.aiter_lines(), StopFilter(request.stop)):
                    yield event
            return
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
        except httpx.TimeoutException as error:
            raise Unavailable("The model did not answer in time.", code="engine_timeout") from error
        except httpx.TransportError as error:
            raise Unavailable("The inference worker ended while it answered.", code="engine_lost") from error
    raise NoInferenceWorker


async def _events(lines: AsyncIterator[str], stops: StopFilter) -> AsyncIterator[Event]:
    reason: str | None = None
    usage: dict[str, Any] = {}
    async for line in lines:
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        chunk = _parsed(data)
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            piece = Piece(
                text=stops.feed(delta.get("content") or ""), reasoning=delta.get("reasoning_content") or ""
            )
            if piece.text or piece.reasoning:
                yield piece
            reason = choice.get("finish_reason") or reason
    if reason is None:
        raise Unavailable("The engine ended while it answered.", code="engine_lost")
    if rest := stops.flush():
        yield Piece(text=rest)
    yield Finish(
        reason="stop" if stops.stopped else reason,
        prompt_tokens=int(usage.get("prompt_tokens", 0)),
        completion_tokens=int(usage.get("completion_tokens", 0)),
    )


def _parsed(data: str) -> dict[str, Any]:
    """A chunk of the stream. Raises the ApiError that it may carry instead."""
    try:
        chunk = json.loads(data)
    except json.JSONDecodeError:
        unescaped = _UNESCAPED_ERROR.match(data)
        raise translated(unescaped[1] if unescaped else data) from None
    if not isinstance(chunk, dict):
        raise EngineFailed(f"The engine sent {data[:200]!r}, which is no chunk of an answer.")
    if "error" in chunk:
        raise translated(chunk["error"])
    return chunk


def _refusal(body: bytes, response: httpx.Response) -> ApiError:
    with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        return translated(json.loads(body)["error"], response.headers.get("retry-after"))
    return EngineFailed(f"The inference worker answered with status {response.status_code}.")
