"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/responses``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from app.core.auth import ProjectId
from app.core.description import answers as described
from app.core.requests import LeanRoute
from app.core.scopes import INFER
from app.core.streaming import ClientGone, EventStream, WhileConnected
from app.inference import answers, responses, service
from app.inference.answers import Dialect
from app.inference.best_of import best_of
from app.inference.completion_schemas import CompletionRequest
from app.inference.dialects import ChatDialect, TextDialect
from app.inference.fanout import Fanout, Indexed
from app.inference.gateway import Gateway, open_gateway
from app.inference.objects import ChatCompletionObject, CompletionObject
from app.inference.responses import Responding
from app.inference.responses_objects import ResponseObject
from app.inference.responses_schemas import ResponseRequest
from app.inference.sampling import SamplingRequest
from app.inference.schemas import ChatCompletionRequest
from app.inference.service import Plan
from app.inference.traced import traced


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
    async with open_gateway() as gateway:
        yield {"gateway": gateway}


router = APIRouter(prefix="/v1", tags=["inference"], route_class=LeanRoute, lifespan=_lifespan)


@router.post("/chat/completions", **described(ChatCompletionObject, event_stream="With ``stream``"), **INFER)
async def create_chat_completion(
    body: ChatCompletionRequest, request: Request, project: ProjectId
) -> Response:
    """Answer a conversation in the mode given by the model's id or ``mode``, or in both.

    The answer, each choice and each chunk carry the ``mode``, as does the header ``x-policysplit-mode``.
    """
    gateway: Gateway = request.state.gateway
    plan = await service.plan_chat(gateway, body, project)
    return await _answer(ChatDialect(), body, plan, request)


@router.post("/completions", **described(CompletionObject, event_stream="With ``stream``"), **INFER)
async def create_completion(body: CompletionRequest, request: Request, project: ProjectId) -> Response:
    """Continue a text.

    No chat template is applied: the model reads exactly what is sent. In the high-entropy mode the
    checkpoint's mode prompt and a blank line precede the text.
    """
    gateway: Gateway = request.state.gateway
    plan = await service.plan_completion(gateway, body, project)
    return await _answer(TextDialect(body.prompts if body.echo else None, plan.samples), body, plan, request)


@router.post("/responses", **described(ResponseObject, event_stream="With ``stream``"), **INFER)
async def create_response(body: ResponseRequest, request: Request, project: ProjectId) -> Response:
    """Answer a conversation in items, as in OpenAI's Responses API.

    Nothing is stored: send the earlier conversation again in ``input``.
    """
    gateway: Gateway = request.state.gateway
    plan = await service.plan_chat(gateway, body.as_chat(), project)
    responding = Responding(body, plan)

    def stream(fanout: Fanout, first: Indexed | None) -> AsyncIterator[bytes]:
        return responses.events(responding, fanout, first)

    return await _sent(
        plan, request, stream if body.stream else None, lambda fanout: responses.whole(responding, fanout)
    )


async def _answer(dialect: Dialect, body: SamplingRequest, plan: Plan, request: Request) -> Response:
    def stream(fanout: Fanout, first: Indexed | None) -> AsyncIterator[bytes]:
        return answers.chunks(dialect, plan, fanout, first, body.include_usage)

    def whole(fanout: Fanout) -> Awaitable[object]:
        return _whole(dialect, body, plan, fanout, request)

    return await _sent(plan, request, stream if body.stream else None, whole)


async def _sent(
    plan: Plan,
    request: Request,
    stream: Callable[[Fanout, Indexed | None], AsyncIterator[bytes]] | None,
    whole: Callable[[Fanout], Awaitable[object]],
) -> Response:
    """The answer, as a stream where there is one to make."""
    gateway: Gateway = request.state.gateway
    fanout = Fanout([traced(gateway, plan, one) for one in plan.samples])
    headers = {"x-policysplit-mode": plan.mode}
    streaming = False
    try:
        if stream is None:
            async with WhileConnected(request.receive):
                answer = await whole(fanout)
            return Response(to_json(answer), headers=headers, media_type="application/json")
        # An error before the first token still gets a status of its own.
        async with WhileConnected(request.receive):
            first = await fanout.next()
        sent = EventStream(stream(fanout, first), on_end=fanout.close, headers=headers)
        streaming = True
        return sent
    except ClientGone:
        return Response(status_code=499)
    finally:
        if not streaming:
            await fanout.close()


async def _whole(
    dialect: Dialect, body: SamplingRequest, plan: Plan, fanout: Fanout, request: Request
) -> dict[str, object]:
    choices, usage = await answers.gather(plan, fanout)
    if body.best_of_n is None:
        return answers.whole(dialect, plan, choices, usage)
    state = request.state
    state.gateway.meter.graded(state.project, len(choices))
    choices, rewards = await best_of(state.grading, state.project, body.best_of_n, choices)
    return answers.whole(dialect, plan, choices, usage, rewards)
