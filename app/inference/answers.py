"""Answers, whole and streamed, with the mode on each choice; the endpoint's way of wording is a Dialect."""

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from pydantic_core import to_json

from app.core.errors import ApiError
from app.inference.fanout import Fanout, Indexed
from app.inference.service import Plan, Sample
from app.inference.text_logprobs import Told
from app.inference.upstream import Finish, Piece


@dataclass
class Gathered:
    """All of one choice."""

    index: int
    text: str = ""
    reasoning: str = ""
    tool_calls: dict[int, Told] = field(default_factory=dict)
    logprobs: list[Told] = field(default_factory=list)
    prompt: Told | None = None
    """The prompt's log-probabilities."""
    reason: str = ""

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        if piece.is_prompt:
            self.prompt = piece.logprobs
            return
        if piece.logprobs is not None:
            self.logprobs.append(piece.logprobs)
        if piece.delta is not None:
            self.reasoning += piece.delta.get("reasoning_content") or ""
            for call in piece.delta.get("tool_calls") or ():
                self._add_call(call)

    def _add_call(self, piece: Told) -> None:
        """A call comes in pieces: who is called first, then the arguments bit by bit."""
        call = self.tool_calls.setdefault(
            piece.get("index", 0), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = call["id"] or piece.get("id")
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


class Dialect(Protocol):
    """How one endpoint words its answers."""

    prefix: str
    """Of an answer's id."""
    kind: str
    """The ``object`` of a whole answer."""
    chunk_kind: str

    def whole(self, gathered: Gathered) -> dict[str, object]:
        """A choice of a whole answer, without index, finish reason and mode."""
        ...

    def opening(self, sample: Sample) -> dict[str, object] | None:
        """What a choice's stream begins with; None: nothing."""
        ...

    def piece(self, piece: Piece, sample: Sample) -> dict[str, object]:
        """A piece of a choice."""
        ...

    def closing(self) -> dict[str, object]:
        """What stands beside the finish reason."""
        ...


class Usage:
    """Tokens of an answer with several choices: each prompt counts once, as at OpenAI."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._prompts: dict[tuple[int, str], int] = {}
        self._completion = 0

    def add(self, index: int, finish: Finish) -> None:
        """The choice ``index`` has ended: also for the books, which are of what is sent to the client."""
        sample = self._plan.samples[index]
        place = sample.prompt, sample.mode.value
        read = 0 if place in self._prompts else finish.prompt_tokens
        self._plan.count(sample.mode.value, read, finish.completion_tokens)
        self._prompts[place] = finish.prompt_tokens
        self._completion += finish.completion_tokens

    def body(self) -> dict[str, int]:
        prompt = sum(self._prompts.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._completion,
            "total_tokens": prompt + self._completion,
        }


async def gather(plan: Plan, fanout: Fanout) -> tuple[list[Gathered], dict[str, int]]:
    """Every choice, complete, and the usage."""
    choices = [Gathered(index) for index in range(len(plan.samples))]
    usage = Usage(plan)
    while (event := await fanout.next()) is not None:
        index, what = event
        if isinstance(what, Piece):
            choices[index].add(what)
        else:
            choices[index].reason = what.reason
            usage.add(index, what)
    return choices, usage.body()


def whole(
    dialect: Dialect,
    plan: Plan,
    choices: list[Gathered],
    usage: dict[str, int],
    rewards: list[dict[str, object]] | None = None,
) -> dict[str, object]:
    """The answer at once, with ``choices`` in their order; ``rewards`` are theirs."""
    worded = []
    for place, choice in enumerate(choices):
        body = {
            "index": place,
            **dialect.whole(choice),
            "finish_reason": choice.reason,
            "mode": plan.samples[choice.index].mode.value,
        }
        worded.append(body if rewards is None else {**body, **rewards[place]})
    return {**_head(dialect, plan, dialect.kind), "choices": worded, "usage": usage}


async def chunks(
    dialect: Dialect, plan: Plan, fanout: Fanout, first: Indexed | None, include_usage: bool
) -> AsyncIterator[bytes]:
    """The answer as server-sent events; ``first`` was taken from the fan-out already.

    What came meanwhile goes out together: the more streams there are, the less each chunk costs.
    """
    head = _head(dialect, plan, dialect.chunk_kind)
    modes = [sample.mode.value for sample in plan.samples]
    usage = Usage(plan)
    # What all chunks share is made once.
    before = b"data: " + to_json(head)[:-1] + b',"choices":['
    after = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def chunk(index: int, body: dict[str, object], reason: str | None = None) -> bytes:
        choice = {"index": index, **body, "finish_reason": reason, "mode": modes[index]}
        return before + to_json(choice) + after

    openings = [(index, dialect.opening(sample)) for index, sample in enumerate(plan.samples)]
    out = [chunk(index, opening) for index, opening in openings if opening is not None]
    event = first
    try:
        while event is not None:
            index, what = event
            if isinstance(what, Finish):
                usage.add(index, what)
                out.append(chunk(index, dialect.closing(), what.reason))
            else:
                out.append(chunk(index, dialect.piece(what, plan.samples[index])))
            if not fanout.waiting:
                yield b"".join(out)
                out.clear()
            event = await fanout.next()
    except ApiError as error:
        yield b"".join([*out, _sse(error.body())])
        return
    if include_usage:
        out.append(_sse({**head, "choices": [], "usage": usage.body()}))
    yield b"".join([*out, b"data: [DONE]\n\n"])


def _head(dialect: Dialect, plan: Plan, kind: str) -> dict[str, object]:
    return {
        "id": f"{dialect.prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": plan.model,
        "mode": plan.mode,
        "checkpoint": plan.checkpoint,
        "system_fingerprint": plan.fingerprint,
    }


def _sse(body: dict[str, object]) -> bytes:
    return b"data: " + to_json(body) + b"\n\n"
