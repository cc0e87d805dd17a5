"""Requests, read strictly: bounded JSON bodies and known query parameters, or a reason why not."""

import asyncio
import inspect
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError
from starlette.requests import ClientDisconnect

from app.core.db import READS, Reads
from app.core.errors import BadRequest, TooLarge
from app.core.scopes import Handler, ScopedRoute
from app.core.strict_json import BadJson, parse
from app.core.validation import validated

MAX_BODY_BYTES = 4 << 20
_LARGE_BYTES = 64 << 10
#: For one of the project's threads.
_WAIT_SECONDS = 30.0


class StrictRequest(Request):
    """A request whose ``json()`` refuses what ``app.core.strict_json`` refuses and bodies over the limit."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise TooLarge(f"The body is larger than the limit of {MAX_BODY_BYTES} bytes.")
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                body = await self.body()
                # What takes long must not keep the event loop from others.
                self._json = await run_in_threadpool(parse, body) if len(body) > _LARGE_BYTES else parse(body)
            except BadJson as error:
                raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
        return self._json


class StrictRoute(ScopedRoute):
    """``APIRouter(route_class=StrictRoute)``: endpoints get their JSON body through StrictRequest."""

    def permitted_handler(self) -> Handler:
        handle = super().permitted_handler()
        expects_json = self.body_field is not None
        takes_thread = not inspect.iscoroutinefunction(self.endpoint)
        known = _query_names(self.dependant)

        async def handle_strictly(request: Request) -> Response:
            _refuse_unknown(request, known)
            request = StrictRequest(request.scope, request.receive, request._send)
            if expects_json:
                # Read it here: FastAPI would swallow our reason for refusing a body.
                await _json_body(request)
            if not takes_thread:
                return await handle(request)
            async with request.state.threads.of(request.state.project, _WAIT_SECONDS):
                if request.method != "GET":
                    return await handle(request)
                return await _while_connected(request, handle)

        return handle_strictly


async def _while_connected(request: Request, handle: Handler) -> Response:
    """``handle(request)``, of which the queries end when the client leaves: no thread works for nobody."""
    reads = Reads()
    token = READS.set(reads)
    listening = asyncio.create_task(_end_when_gone(request, reads))
    try:
        return await handle(request)
    except OperationalError:
        if listening.done():
            raise ClientDisconnect from None
        raise
    finally:
        listening.cancel()
        READS.reset(token)


async def _end_when_gone(request: Request, reads: Reads) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    await run_in_threadpool(reads.end)


class LeanRoute(StrictRoute):
    """For what is asked so often that FastAPI's own work on each request shows: it only describes the route.

    Its endpoints are coroutines of ``body``, a model, ``request`` and ``project``, and return a response.
    """

    def permitted_handler(self) -> Handler:
        endpoint, field = self.dependant.call, self.body_field
        assert endpoint is not None
        assert field is not None
        model: Any = field.field_info.annotation

        async def handle(request: Request) -> Response:
            _refuse_unknown(request, [])
            request = StrictRequest(request.scope, request.receive, request._send)
            value = await _json_body(request)
            if len(await request.body()) > _LARGE_BYTES:
                body = await run_in_threadpool(validated, model, value)
            else:
                body = validated(model, value)
            return await endpoint(body=body, request=request, project=request.state.project)

        return handle


def _query_names(dependant: Any) -> list[str]:
    """The query parameters of an endpoint, as FastAPI has it, and of what it depends on."""
    below = [name for dependency in dependant.dependencies for name in _query_names(dependency)]
    return [*(field.alias for field in dependant.query_params), *below]


async def _json_body(request: StrictRequest) -> object:
    """The body of a request that says it is JSON: a page of another origin cannot say so unasked."""
    given = request.headers.getlist("content-type")
    if len(given) != 1 or given[0].partition(";")[0].strip().lower() != "application/json":
        said = f"is {given[0][:100]!r}" if len(given) == 1 else "was given twice" if given else "is missing"
        raise BadRequest(
            f"The content type {said}; send application/json.",
            param="content-type",
            code="invalid_content_type",
        )
    return await request.json()


def _refuse_unknown(request: Request, known: list[str]) -> None:
    """Refuse query parameters that the endpoint does not know; ``metadata[key]`` belongs to ``metadata``."""
    if not request.scope["query_string"]:
        return
    for name in request.query_params:
        if name not in known and name.partition("[")[0] not in set(known) & {"metadata"}:
            accepted = f"Accepted here: {', '.join(known)}." if known else "None is accepted here."
            raise BadRequest(
                f"Unknown query parameter: '{name[:80]}'. {accepted}",
                param=name[:80],
                code="unknown_parameter",
            )
