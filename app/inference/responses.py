"""Answers of ``/v1/responses``, whole and as events: items that open, grow and are done, in turn."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic_core import to_json

from app.core.errors import ApiError
from app.core.strict_json import JsonObject
from app.inference.fanout import Fanout, Indexed
from app.inference.responses_schemas import ResponseRequest
from app.inference.service import Plan
from app.inference.upstream import Finish, Piece

Item = JsonObject
_Event = tuple[str, JsonObject]


class Responding:
    """One answer on its way: takes what the engine says, and tells what becomes of the items."""

    def __init__(self, request: ResponseRequest, plan: Plan):
        self._request, self._plan = request, plan
        self._id = f"resp_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._items: list[Item] = []
        self._open: Item | None = None
        self._calls: dict[int, Item] = {}
        self._finish: Finish | None = None

    def body(self) -> JsonObject:
        """The response as it is now."""
        request, finish = self._request, self._finish
        cut = finish is not None and finish.reason == "length"
        status = "in_progress" if finish is None else "incomplete" if cut else "completed"
        told: JsonObject = request.model_dump(
            include={"instructions", "metadata", "max_output_tokens", "max_tool_calls", "user"}
        )
        form = None if request.text is None else request.text.format
        shown = {"type": "text"} if form is None else form.model_dump(by_alias=True, exclude_none=True)
        tools = [_described(tool.model_dump()) for tool in request.tools or ()]
        choice = request.tool_choice
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": None if finish is None else int(time.time()),
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            **told,
            "metadata": request.metadata or {},
            "model": request.model,
            "output": self._items,
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "tool_choice": "auto"
            if choice is None
            else choice
            if isinstance(choice, str)
            else choice.model_dump(),
            "tools": tools,
            "top_logprobs": request.top_logprobs or 0,
            "text": {"format": shown},
            "reasoning": {"effort": None if request.reasoning is None else request.reasoning.effort},
            "truncation": "disabled",
            "previous_response_id": None,
            "background": False,
            "store": False,
            "service_tier": "default",
            "usage": None if finish is None else _usage(finish),
            "mode": self._plan.mode,
            "checkpoint": self._plan.checkpoint,
        }

    def take(self, event: Piece | Finish) -> Iterator[_Event]:
        """What an event of the engine changes."""
        if isinstance(event, Finish):
            yield from self._close()
            if not self._items:
                yield from self._begin(_message())
                yield from self._close()
            self._finish = event
            return
        delta = event.delta or {}
        if thought := delta.get("reasoning_content"):
            yield from self._grow("reasoning", thought, [])
        entries = (event.logprobs or {}).get("content") or []
        if event.text or (entries and not delta):
            yield from self._grow("message", event.text, entries)
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)

    def _begin(self, item: Item) -> Iterator[_Event]:
        yield from self._close()
        self._open = item
        self._items.append(item)
        place = len(self._items) - 1
        yield (
            "output_item.added",
            {"output_index": place, "item": {**item, "content": []} if "content" in item else item},
        )
        if "content" in item:
            yield "content_part.added", {**self._place(), "part": dict(item["content"][0])}

    def _grow(self, kind: str, text: str, logprobs: list[Any]) -> Iterator[_Event]:
        if self._open is None or self._open["type"] != kind:
            yield from self._begin(_message() if kind == "message" else _thoughts())
        assert self._open is not None
        part = self._open["content"][0]
        part["text"] += text
        if kind == "message":
            part["logprobs"] += logprobs
            yield "output_text.delta", {**self._place(), "delta": text, "logprobs": logprobs}
        else:
            yield "reasoning_text.delta", {**self._place(), "delta": text}

    def _call(self, piece: JsonObject) -> Iterator[_Event]:
        function = piece.get("function") or {}
        item = self._calls.get(piece.get("index", 0))
        if item is None:
            item = self._calls[piece.get("index", 0)] = {
                "type": "function_call",
                "id": f"fc_{secrets.token_hex(24)}",
                "call_id": piece.get("id") or f"call_{secrets.token_hex(12)}",
                "name": function.get("name") or "",
                "arguments": "",
                "status": "in_progress",
            }
            yield from self._begin(item)
        if arguments := function.get("arguments"):
            item["arguments"] += arguments
            place = {"item_id": item["id"], "output_index": self._items.index(item)}
            yield "function_call_arguments.delta", {**place, "delta": arguments}

    def _close(self) -> Iterator[_Event]:
        """The open item is complete."""
        item, self._open = self._open, None
        if item is None:
            return
        place = {"item_id": item["id"], "output_index": self._items.index(item)}
        if item["type"] == "function_call":
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield "function_call_arguments.done", {**place, **told}
        else:
            part = item["content"][0]
            place["content_index"] = 0
            if item["type"] == "message":
                yield "output_text.done", {**place, "text": part["text"], "logprobs": part["logprobs"]}
            else:
                yield "reasoning_text.done", {**place, "text": part["text"]}
            yield "content_part.done", {**place, "part": part}
        item["status"] = "completed"
        yield "output_item.done", {"output_index": place["output_index"], "item": item}

    def _place(self) -> JsonObject:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._items) - 1, "content_index": 0}


async def whole(responding: Responding, fanout: Fanout) -> JsonObject:
    """The response, complete."""
    while (event := await fanout.next()) is not None:
        for _ in responding.take(event[1]):
            pass
    return responding.body()


async def events(responding: Responding, fanout: Fanout, first: Indexed | None) -> AsyncIterator[bytes]:
    """The response as server-sent events; ``first`` was taken from the fan-out already."""
    number = 0

    def sse(kind: str, body: JsonObject) -> bytes:
        nonlocal number
        data = to_json({"type": kind, "sequence_number": number, **body})
        number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    for kind in ("response.created", "response.in_progress"):
        yield sse(kind, {"response": responding.body()})
    event = first
    try:
        while event is not None:
            out = [sse(f"response.{kind}", body) for kind, body in responding.take(event[1])]
            if out:
                yield b"".join(out)
            event = await fanout.next()
    except ApiError as error:
        yield sse("error", {"code": error.code, "message": error.message, "param": error.param})
        return
    body = responding.body()
    yield sse(f"response.{body['status']}", {"response": body})


def _message() -> Item:
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": f"msg_{secrets.token_hex(24)}",
        "status": "in_progress",
        "role": "assistant",
        "content": [part],
    }


def _thoughts() -> Item:
    return {
        "type": "reasoning",
        "id": f"rs_{secrets.token_hex(24)}",
        "status": "in_progress",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": ""}],
    }


def _described(tool: JsonObject) -> JsonObject:
    return {**tool, "parameters": tool["parameters"] or {}, "strict": tool["strict"] is True}


def _usage(finish: Finish) -> JsonObject:
    return {
        "input_tokens": finish.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": finish.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
    }
