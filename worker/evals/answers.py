"""Answers to items: of a model of this service, of an operator's endpoint, or as their rows bring them.

A model of this service is asked as the API asks it for a chat request: the same plan, the same gateway, in
this process. So an item is answered to the bit as it would be in chat, modes and routing and refusals
included; no key is needed, for the run says whose it is; and no API process need be up.

The item that meets an outage is not at fault. Where a model cannot answer now, it is asked again with
growing pauses; the run fails once nothing has been answered for as long as a cold start may take.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.core.errors import ApiError, BadRequest, NotFound, Unavailable
from app.core.settings import get_settings
from app.core.strict_json import JsonObject
from app.evals.asking import Asking
from app.evals.data_sources import AskingRun
from app.evals.rows import EvalRow
from app.inference.answers import gather
from app.inference.dialects import ChatDialect
from app.inference.fanout import Fanout
from app.inference.gateway import Gateway
from app.inference.schemas import ChatCompletionRequest
from app.inference.service import plan_chat, seed_of_choice
from app.inference.upstream import sample
from trainer.errors import InvalidSpec
from trainer.graders.grade import Sample
from trainer.graders.judge import usage_of
from trainer.graders.judge_spec import JudgeFields
from trainer.graders.remote import ModelEndpoint, RemoteError
from worker.evals.errors import RunFailed

#: Refusals that every item would meet.
_FOR_ALL = frozenset({"unsupported_parameter", "mode_not_available", "mode_contradiction"})
_FIRST_WAIT, _MAX_WAIT = 0.5, 15.0
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")

Told = JsonObject


@dataclass(frozen=True)
class Answer:
    """To one item: what graders read, and what the API shows of it. Without the first, why not."""

    graded: Sample | None
    shown: Told | None
    usage: dict[str, Told] = field(default_factory=dict)
    """Counts by model."""
    error: str | None = None


class Answering(Protocol):
    """Answers items; closed when it is done with."""

    async def answer(self, row: EvalRow) -> Answer:
        """The item's answer. Raises RunFailed where no other item will have one."""
        ...

    def close(self) -> None: ...


class Given:
    """Answers that are there; of rows without one the item itself is graded."""

    async def answer(self, row: EvalRow) -> Answer:
        if row.sample is None:
            return Answer(Sample(row.item, ""), None)
        text = row.answer or ""
        calls: Any = row.sample.get("output_tools")
        shown = _shown({"model": "", "input": [], "output": [_message(text, [])], "finish_reason": "stop"})
        return Answer(Sample(row.item, text, calls=calls if isinstance(calls, list) else None), shown)

    def close(self) -> None: ...


class Outage:
    """How long nothing has been answered, over all items of a run."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def answered(self) -> None:
        self._since = time.monotonic()

    async def wait(self, met: list[float], code: str | None, message: str) -> None:
        """Pause before another try; ``met`` is when the item met it. Raises RunFailed in the end."""
        now = time.monotonic()
        met.append(now)
        if now - max(self._since, met[0]) > get_settings().engine_start_seconds:
            raise RunFailed(code or "model_unavailable", message)
        await asyncio.sleep(min(_FIRST_WAIT * 2 ** (len(met) - 1), _MAX_WAIT))


class OfService:
    """A model of this service, in one of its modes."""

    def __init__(self, gateway: Gateway, project: str, asking: Asking, seed: int):
        self._gateway, self._project, self._asking, self._seed = gateway, project, asking, seed
        self._outage = Outage()

    async def answer(self, row: EvalRow) -> Answer:
        request = self._asking.request(row.item, seed_of_choice(self._seed, row.position))
        met: list[float] = []
        while True:
            try:
                answered = await self._ask(row, request)
            except Unavailable as error:
                await self._outage.wait(met, error.code, error.message)
            except NotFound as error:
                raise RunFailed(error.code or "model_not_found", error.message) from None
            except ApiError as error:
                if isinstance(error, BadRequest) and error.code in _FOR_ALL:
                    raise RunFailed(error.code or "invalid_request", error.message) from None
                self._outage.answered()
                return _failed(request, None, error.code or "engine_error", error.message)
            else:
                self._outage.answered()
                return answered

    async def _ask(self, row: EvalRow, request: ChatCompletionRequest) -> Answer:
        plan = await plan_chat(self._gateway, request, self._project)
        (one,) = plan.samples
        fanout = Fanout([sample(self._gateway, plan.workers, plan.needs, one.request)])
        try:
            (choice,), usage = await gather(plan, fanout)
        finally:
            await fanout.close()
        message: Told = ChatDialect().whole(choice)["message"]  # pyright: ignore[reportAssignmentType]
        return _answered(row, request, message, choice.reason, usage, plan.mode)

    def close(self) -> None: ...


class OfEndpoint:
    """A model behind one of the operator's endpoints: the way of judges, with their limits and their keys."""

    def __init__(self, source: AskingRun, asking: Asking, seed: int, concurrency: int):
        self._asking, self._seed = asking, seed
        self._closed = threading.Event()
        fields = JudgeFields(
            name="model", model=source.model, endpoint=source.endpoint, concurrency=min(concurrency, 64)
        )
        try:
            self._endpoint = ModelEndpoint(fields, self._closed)
        except InvalidSpec as error:
            raise RunFailed("endpoint_not_available", f"{error}.") from None
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="eval-endpoint")
        self._outage = Outage()

    async def answer(self, row: EvalRow) -> Answer:
        seed = seed_of_choice(self._seed, row.position)
        request = self._asking.request(row.item, seed)
        body = self._asking.body(row.item, seed)
        met: list[float] = []
        while True:
            try:
                told = await self._in_thread(lambda: self._endpoint.post("/chat/completions", body))
            except RemoteError as error:
                if error.status is None or error.status == 429 or error.status >= 500:
                    await self._outage.wait(met, "endpoint_unavailable", f"{error}.")
                    continue
                if error.status in (0, 401, 403, 404):
                    raise RunFailed("endpoint_refused", f"{error}.") from None
                self._outage.answered()
                return _failed(request, None, "endpoint_error", f"{error}.")
            self._outage.answered()
            told = _printable(told)
            try:
                (choice, *_) = told["choices"]  # pyright: ignore[reportGeneralTypeIssues]
                message = dict(choice["message"])
            except (KeyError, TypeError, ValueError):
                return _failed(request, None, "endpoint_error", "The answer is not a chat completion.")
            return _answered(row, request, message, choice.get("finish_reason"), usage_of(told), None)

    async def _in_thread(self, work: Callable[[], dict[str, object]]) -> dict[str, object]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._endpoint.close()


def _answered(
    row: EvalRow,
    request: ChatCompletionRequest,
    message: Told,
    reason: str | None,
    usage: dict[str, int],
    mode: str | None,
) -> Answer:
    text, thoughts = message.get("content") or "", message.get("reasoning_content")
    calls = message.get("tool_calls") or []
    graded = (
        Sample.of(row.item, text)
        if thoughts is None
        else Sample(row.item, text, reasoning=thoughts, whole=f"{thoughts}\n{text}")
    )
    graded.calls = calls or None
    counts = {name: int(usage.get(name) or 0) for name in _COUNTS}
    shown = _drawn(request, mode) | {
        "output": [_message(text if text or not calls else None, calls)],
        "reasoning": graded.reasoning,
        "finish_reason": reason or "stop",
        "usage": counts,
    }
    return Answer(graded, _shown(shown), {request.model: {"invocation_count": 1} | counts})


def _failed(request: ChatCompletionRequest, mode: str | None, code: str, message: str) -> Answer:
    shown = _drawn(request, mode) | {"error": {"code": code, "message": message}}
    return Answer(None, _shown(shown), error=message)


def _drawn(request: ChatCompletionRequest, mode: str | None) -> Told:
    return {
        "model": request.model,
        "mode": mode,
        "input": [
            {"role": one["role"], "content": one.get("content")}
            for one in (message.templated(knows_developer=True) for message in request.messages)
        ],
        "seed": request.seed,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "max_completion_tokens": request.token_limit,
    }


def _message(text: str | None, calls: list[Told]) -> Told:
    said: Told = {"role": "assistant", "content": text}
    return said | {"tool_calls": calls} if calls else said


def _printable(told: dict[str, object]) -> Told:
    """Without halves of surrogate pairs, which no answer of the API can carry."""
    return json.loads(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"))


def _shown(told: Told) -> Told:
    """With everything that a sample has."""
    nothing: Told = dict.fromkeys(
        (
            "mode",
            "reasoning",
            "finish_reason",
            "seed",
            "temperature",
            "top_p",
            "max_completion_tokens",
            "error",
        )
    )
    return nothing | {"output": [], "usage": dict.fromkeys(_COUNTS, 0)} | told
