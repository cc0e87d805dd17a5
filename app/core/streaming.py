"""Streams that end with their client: generation is cancelled as soon as nobody listens any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

#: How long a stream of events is silent before it says that it is there.
COMMENT_SECONDS = 15.0
#: A comment, which readers skip. No empty line: behind an event with an id the openai client (3.57) takes one
#: for the end of a further event, without data, and fails on that.
STILL_HERE = ": still here\n"


class ClientGone(Exception):
    """The client closed the connection before the answer was ready."""


class WhileConnected:
    """``async with WhileConnected(receive):`` ends its block with ClientGone when the client goes away.

    The request's body must have been read already.
    """

    def __init__(self, receive: Receive):
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._listening = asyncio.create_task(self._listen())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.cancel()
        # Somebody else's cancellation goes on.
        if self._gone and self._task.uncancel() == 0 and kind in (None, asyncio.CancelledError):
            raise ClientGone from error

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()


async def cancel(*tasks: asyncio.Task[object]) -> None:
    """Cancel the tasks that are not done and wait until they have cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(Response):
    """Server-sent events; ``on_end`` is awaited however the response ends, even before its first byte.

    It does for each chunk what is needed and no more: with many streams, that is what the engine lacks.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        on_end: Callable[[], Awaitable[None]],
        headers: dict[str, str] | None = None,
    ):
        self._content = content
        self._on_end = on_end
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with WhileConnected(receive):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for chunk in self._content:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            pass
        finally:
            await self._on_end()
