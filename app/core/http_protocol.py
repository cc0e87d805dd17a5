"""uvicorn's HTTP, with an end to what a client may send and how long it may take: ``uvicorn --http``.

uvicorn keeps whatever heads come, however long and however slowly, and waits for ever for a body's next byte
or for a client to read. A connection here has ``HEAD_SECONDS`` for a head of ``MAX_HEAD_BYTES``; afterwards
it has to go on, in either direction, within each ``PROGRESS_SECONDS``.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
PROGRESS_SECONDS = 30.0
#: Of a body, within that time: half a kilobyte a second.
LEAST_BODY_BYTES = 16 << 10


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._reading_head, self._reading_body = True, False
        self._head_bytes = self._body_bytes = 0
        self._unsent: int | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._expect_head()
        self._progress_timer = self.loop.call_later(PROGRESS_SECONDS, self._look_for_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._progress_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading_head:
            if self._head_timer is None:  # the next request of a connection that is kept
                self._expect_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reading_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                b"431 Request Header Fields Too Large",
                f"The head of a request may have up to {MAX_HEAD_BYTES} bytes.",
            )

    def on_message_begin(self) -> None:
        self._reading_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reading_head, self._reading_body = False, True
        self._body_bytes = 0
        self._head_came()
        # A whole head may have come at once, with more behind it.
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(
                b"431 Request Header Fields Too Large",
                f"The head of a request may have up to {MAX_HEAD_BYTES} bytes.",
            )
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading_head, self._reading_body = True, False
        self._head_bytes = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._reading_head and (self.cycle is None or self.cycle.response_complete):
            self._refuse(
                b"408 Request Timeout", f"The head of a request must arrive within {HEAD_SECONDS:g} s."
            )

    def _look_for_progress(self) -> None:
        """Every so often: whether the body that is read, and the answer that is written, have gone on."""
        unsent = self.transport.get_write_buffer_size() if self.flow.write_paused else None
        if unsent is not None and self._unsent is not None and unsent >= self._unsent:
            self.transport.abort()  # nobody reads: no use in saying why
            return
        self._unsent = unsent
        slow = self._reading_body and self._body_bytes < LEAST_BODY_BYTES
        if slow and not self.flow.read_paused:
            self._refuse(
                b"408 Request Timeout", f"More of the body must arrive within {PROGRESS_SECONDS:g} s."
            )
            return
        self._body_bytes = 0
        self._progress_timer = self.loop.call_later(PROGRESS_SECONDS, self._look_for_progress)

    def _refuse(self, status: bytes, reason: str) -> None:
        if self.transport.is_closing():
            return
        body = b'{"error": {"message": "%s", "type": "invalid_request_error", "param": null, "code": null}}'
        body %= reason.encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        head += b"connection: close\r\n\r\n"
        if self.cycle is None or not self.cycle.response_started:
            self.transport.write(head % (status, len(body)) + body)
        self.transport.close()
