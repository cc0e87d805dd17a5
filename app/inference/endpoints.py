"""``/v1/chat/completions``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from app.auth import ProjectId
from app.inference import answers, service
from app.inference.fanout import Fanout, Indexed
from app.inference.schemas import ChatCompletionRequest
from app.inference.streaming import ClientGone, EventStream, unless_disconnected
from app.inference.upstream import sample
from app.requests import StrictRoute
from app.settings import get_settings


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """One HTTP client for all requests to inference workers, reached as ``request.state.inference``."""
    token = get_settings().inference_token
    headers = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(headers=headers, limits=limits, trust_env=False) as client:
        yield {"inference": client}


router = APIRouter(prefix="/v1", tags=["inference"], route_class=StrictRoute, lifespan=_lifespan)


@router.post("/chat/completions", response_model=None)
async def create_chat_completion(
    body: ChatCompletionRequest, request: Request, project: ProjectId
) -> Response:
    """Answer a conversation in the mode that the model's id or ``mode`` names.

    The answer, each choice and each chunk carry the ``mode``, as does the header ``x-policysplit-mode``.
    """
    plan = await run_in_threadpool(service.plan, body, project)
    settings = get_settings()
    # Long enough for a cold start and then a slow first token: past it something hangs.
    timeout = httpx.Timeout(
        30.0, connect=5.0, read=settings.engine_start_seconds + settings.engine_stall_seconds
    )
    client: httpx.AsyncClient = request.state.inference
    fanout = Fanout([sample(client, plan.urls, one, timeout) for one in plan.samples])
    headers = {"x-policysplit-mode": plan.mode.value}
    streaming = False
    try:
        if not body.stream:
            answer = await unless_disconnected(request, answers.completion(plan, fanout))
            return JSONResponse(answer, headers=headers)
        # An error before the first token still gets a status of its own.
        first: Indexed | None = await unless_disconnected(request, fanout.next())
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        stream = EventStream(
            answers.chunks(plan, fanout, first, include_usage), on_end=fanout.close, headers=headers
        )
        streaming = True
        return stream
    except ClientGone:
        return Response(status_code=499)
    finally:
        if not streaming:
            await fanout.close()
