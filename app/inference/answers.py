"""Chat completions and their chunks, in OpenAI's shape with the mode on each."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from app.errors import ApiError
from app.inference.fanout import Fanout, Indexed
from app.inference.service import Plan
from app.inference.upstream import Finish, Piece


class Usage:
    """Tokens of an answer with several choices: the prompt counts once, as at OpenAI."""

    def __init__(self) -> None:
        self._prompt = self._completion = 0

    def add(self, finish: Finish) -> None:
        self._prompt = finish.prompt_tokens
        self._completion += finish.completion_tokens

    def body(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "total_tokens": self._prompt + self._completion,
        }


async def completion(plan: Plan, fanout: Fanout) -> dict[str, Any]:
    """The whole answer at once."""
    texts, thoughts = [""] * len(plan.samples), [""] * len(plan.samples)
    reasons, usage = [""] * len(plan.samples), Usage()
    while (event := await fanout.next()) is not None:
        index, what = event
        if isinstance(what, Piece):
            texts[index] += what.text
            thoughts[index] += what.reasoning
        else:
            reasons[index] = what.reason
            usage.add(what)
    choices = []
    for index, text in enumerate(texts):
        message = {"role": "assistant", "content": text, "refusal": None}
        if thoughts[index]:
            message["reasoning_content"] = thoughts[index]
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": reasons[index],
                "logprobs": None,
                "mode": plan.mode.value,
            }
        )
    return {**_head(plan, "chat.completion"), "choices": choices, "usage": usage.body()}


async def chunks(
    plan: Plan, fanout: Fanout, first: Indexed | None, include_usage: bool
) -> AsyncIterator[bytes]:
    """The answer as server-sent events; ``first`` was taken from the fan-out already."""
    head = _head(plan, "chat.completion.chunk")
    usage = Usage()

    def chunk(index: int, delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "finish_reason": reason,
            "logprobs": None,
            "mode": plan.mode.value,
        }
        return _sse({**head, "choices": [choice], **({"usage": None} if include_usage else {})})

    for index in range(len(plan.samples)):
        yield chunk(index, {"role": "assistant", "content": ""})
    event = first
    try:
        while event is not None:
            index, what = event
            if isinstance(what, Finish):
                usage.add(what)
                yield chunk(index, {}, what.reason)
            else:
                delta = {"content": what.text} if what.text else {}
                yield chunk(index, delta | ({"reasoning_content": what.reasoning} if what.reasoning else {}))
            event = await fanout.next()
    except ApiError as error:
        yield _sse(error.body())
        return
    if include_usage:
        yield _sse({**head, "choices": [], "usage": usage.body()})
    yield b"data: [DONE]\n\n"


def _head(plan: Plan, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": plan.model,
        "mode": plan.mode.value,
        "system_fingerprint": plan.fingerprint,
    }


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
