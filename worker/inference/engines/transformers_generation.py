"""One answer of the built-in engine: generated on the engine's thread, read on the event loop."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig
from transformers.cli.serving.utils import (
    ReasoningText,
    ToolCall,
    response_events_to_chunks,
    set_torch_seed,
)

from worker.inference.engines.calls import CallReader
from worker.inference.engines.transformers_logits import Shaping, TokenLogprobs, prompt_logprobs


@dataclass
class Token:
    """What a token adds to the answer, and its log-probability where that is told."""

    text: str = ""
    thought: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    told: TokenLogprobs | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.text or self.thought or self.calls or self.told)


Item = Token | list[TokenLogprobs] | BaseException | None
"""What a generation puts out: the prompt's log-probabilities where they are wanted, tokens, then None."""


class Reader:
    """Takes calls and thoughts out of an answer: by transformers' parser of the family, or by ours."""

    def __init__(self, *, parser: Any = None, calls: CallReader | None = None):
        self._parser, self._calls = parser, calls

    @property
    def reads_marks(self) -> bool:
        """Whether it wants to see special tokens."""
        return self._parser is not None or self._calls is not None

    @property
    def reads_ends(self) -> bool:
        """Whether it wants to see the token that ends the answer."""
        return self._parser is not None

    def begin(self) -> Token:
        return self._token(response_events_to_chunks(self._parser.initial_events) if self._parser else [])

    def feed(self, text: str) -> Token:
        if self._parser is not None:
            return self._token(response_events_to_chunks(self._parser.feed(text)))
        return self._token([text] if self._calls is None else self._calls.feed(text))

    def end(self) -> Token:
        if self._parser is not None:
            try:
                _, events = self._parser.finalize()
            except (ValueError, RuntimeError):  # it ended within a call, which is none then
                return Token()
            return self._token(response_events_to_chunks(events))
        return self._token([] if self._calls is None else self._calls.end())

    @staticmethod
    def _token(pieces: list[Any]) -> Token:
        token = Token()
        for piece in pieces:
            if isinstance(piece, ToolCall):
                token.calls.append(piece)
            elif isinstance(piece, dict):
                token.calls.append(ToolCall(piece["name"], piece["arguments"]))
            elif isinstance(piece, ReasoningText):
                token.thought += piece
            else:
                token.text += piece
        return token


class _Cancelled(Exception):
    """Nobody wants the rest."""


class Generation:
    """Made on the event loop, which reads it; ``run`` is for the engine's thread. A streamer of generate."""

    def __init__(
        self, model: Any, tokenizer: Any, ids: list[int], config: GenerationConfig, shaping: Shaping
    ):
        self._model, self._tokenizer, self._config, self._shaping = model, tokenizer, config, shaping
        self._ids = ids
        self.reader = Reader()
        #: Of the torch generator; None: as it is.
        self.seed: int | None = None
        #: How many of the likeliest tokens to tell at each position of the prompt; None: nothing.
        self.echo: int | None = None
        #: Whether there is an answer beside the prompt.
        self.generates = True
        #: Whether it ended by itself, and not by its length.
        self.ended = False
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._gone = threading.Event()
        self._count = 0
        self._saw_prompt = False
        stops = config.eos_token_id if config.eos_token_id is not None else []
        self._stops = {stops} if isinstance(stops, int) else set(stops)
        self._decoder: DecodeStream | None = None

    @property
    def usage(self) -> dict[str, int]:
        prompt, count = len(self._ids), self._count
        return {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}

    async def next(self) -> Item:
        """The next item."""
        return await self._items.get()

    def cancel(self) -> None:
        """End it at its next token."""
        self._gone.set()

    def run(self) -> None:
        """Generate the answer."""
        try:
            ids = torch.tensor([self._ids], device=self._model.device)
            if self.echo is not None and not self._gone.is_set():
                self._put(prompt_logprobs(self._model, ids, self.echo))
            if self.generates and not self._gone.is_set():
                self._generate(ids)
            self._put(None)
        except _Cancelled:
            pass
        except Exception as error:
            self._put(error)

    def _generate(self, ids: torch.Tensor) -> None:
        if self.seed is not None:
            set_torch_seed(self.seed)
        self._decoder = DecodeStream([], skip_special_tokens=not self.reader.reads_marks)
        self._say(self.reader.begin())
        self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=self._config,
            logits_processor=[self._shaping],
            streamer=self,
            tokenizer=self._tokenizer,
        )
        self.ended = self.ended or self._count < (self._config.max_new_tokens or 0)
        self._say(self.reader.end())

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, which comes first, then each token as it is chosen."""
        if self._gone.is_set():
            raise _Cancelled
        if not self._saw_prompt:
            self._saw_prompt = True
            return
        assert self._decoder is not None
        for token in value.tolist():
            self._count += 1
            self.ended = token in self._stops
            # Seen as text it would be a part of the answer, where special tokens are.
            hidden = self.ended and self.reader.reads_marks and not self.reader.reads_ends
            text = None if hidden else self._decoder.step(self._tokenizer._tokenizer, token)
            said = Token() if text is None else self.reader.feed(text)
            said.told = self._shaping.told(token)
            self._say(said)

    def end(self) -> None:
        """Nothing more comes from ``generate``."""

    def _say(self, token: Token) -> None:
        if token.says_something:
            self._put(token)

    def _put(self, item: Item) -> None:
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)
