"""Answers of the built-in engine: from a request to tokens, and to the chunks that tell of them."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from transformers import GenerationConfig
from transformers.cli.serving.utils import ToolCall, build_response_parser

from app.core.strict_json import JsonObject
from app.inference.engine_request import DEFAULT_MAX_TOKENS
from trainer.graders.forced import BadForm, Matcher, Vocabulary, grammar_of
from trainer.graders.response_format import ResponseFormat
from trainer.graders.tool_calls import CLOSE, OPEN
from worker.inference.engines.calls import BadChoice, CallReader, grammar_of_calls, marks_calls, must_call
from worker.inference.engines.transformers_generation import Generation, Reader, Token
from worker.inference.engines.transformers_logits import Shaping, Wording

Kind = Literal["chat", "text"]
Body = JsonObject


class Answers:
    """The two endpoints on the one model of this server. ``handler``: the server's own, which loads it."""

    def __init__(self, handler: Any):
        self._handler = handler
        self._vocabulary: Vocabulary | None = None

    def rendered(self, body: Body) -> list[int]:
        """The token ids of a conversation, as for an answer."""
        _, _, tokenizer = self._handler._resolve_model({})
        return tokenizer.apply_chat_template(
            body["messages"],
            add_generation_prompt=True,
            tools=body.get("tools"),
            tokenize=True,
            return_dict=True,
            **self._handler.chat_template_kwargs | body.get("chat_template_kwargs", {}),
        )["input_ids"]

    async def chat(self, body: Body) -> StreamingResponse:
        """``/v1/chat/completions``."""
        return await self._answer("chat", body, self.rendered(body))

    async def text(self, body: Body) -> StreamingResponse:
        """``/v1/completions`` of a text or of token ids."""
        prompt = body["prompt"]
        if isinstance(prompt, str):
            _, _, tokenizer = self._handler._resolve_model({})
            prompt = tokenizer(prompt)["input_ids"]
        return await self._answer("text", body, prompt)

    async def idle(self) -> None:
        """Return once all work before has ended."""
        name, _, _ = self._handler._resolve_model({})
        await self._manager(name).async_submit(lambda: None)

    def _manager(self, name: str) -> Any:
        return self._handler.generation_state.get_manager(name)

    async def _answer(self, kind: Kind, body: Body, ids: list[int]) -> StreamingResponse:
        name, model, tokenizer = self._handler._resolve_model({})
        options = json.loads(body["generation_config"])
        limit = _limit(model, len(ids), options.pop("max_new_tokens", None))
        config = GenerationConfig(**options, max_new_tokens=max(1, limit))
        size = model.config.get_text_config().vocab_size
        biases = {int(token): bias for token, bias in body.get("logit_bias", {}).items()}
        if beyond := [token for token in (*ids, *biases) if token >= size]:
            param = "logit_bias" if beyond[0] in biases else "prompt"
            raise _refused(f"{param} has the token id {beyond[0]}; this model's highest is {size - 1}", param)
        top = _told(kind, body)
        wanted = _forced(body)
        if self._vocabulary is None and (top is not None or wanted):
            self._vocabulary = await asyncio.to_thread(_vocabulary, model, tokenizer, config, size)
        matcher = None
        if wanted:
            assert self._vocabulary is not None
            matcher = await asyncio.to_thread(_matcher, self._vocabulary, tokenizer, body)
        shaping = Shaping(
            len(ids),
            presence=body.get("presence_penalty", 0.0),
            frequency=body.get("frequency_penalty", 0.0),
            biases=biases,
            matcher=matcher,
            top=top,
        )
        generation = Generation(model, tokenizer, ids, config, shaping)
        generation.generates = limit > 0
        generation.seed = body.get("seed")
        generation.echo = top if body.get("echo") else None
        if kind == "chat":
            generation.reader = _reader(model, tokenizer, body, ids)
        self._manager(name).submit(generation.run)
        wording = None if self._vocabulary is None else Wording(self._vocabulary)
        return StreamingResponse(_chunks(kind, generation, wording), media_type="text/event-stream")


def _told(kind: Kind, body: Body) -> int | None:
    """How many of the likeliest tokens to tell; None: no log-probabilities."""
    if kind == "text":
        return body.get("logprobs")
    return body.get("top_logprobs", 0) if body.get("logprobs") else None


def _forced(body: Body) -> bool:
    return "response_format" in body or ("tools" in body and must_call(body.get("tool_choice")))


def _vocabulary(model: Any, tokenizer: Any, config: GenerationConfig, size: int) -> Vocabulary:
    stops = config.eos_token_id or model.generation_config.eos_token_id or []
    try:
        written = tokenizer.backend_tokenizer.to_str()
        return Vocabulary(written, [stops] if isinstance(stops, int) else stops, size)
    except BadForm as error:
        raise _refused(f"This model cannot give log-probabilities or enforce a format: {error}") from None


def _matcher(vocabulary: Vocabulary, tokenizer: Any, body: Body) -> Matcher:
    calls = "tools" in body and must_call(body.get("tool_choice"))
    try:
        if not calls:
            return vocabulary.matcher(grammar_of(ResponseFormat.model_validate(body["response_format"])))
        ids = tokenizer.get_added_vocab()
        grammar = grammar_of_calls(
            body["tools"],
            body["tool_choice"],
            marked=marks_calls(tokenizer.chat_template),
            several=body.get("parallel_tool_calls", True),
            special=[mark for mark in (OPEN, CLOSE) if mark in ids and vocabulary.is_special(ids[mark])],
        )
        return vocabulary.matcher(grammar)
    except BadChoice as error:
        raise _refused(str(error), "tool_choice") from None
    except BadForm as error:
        param = "tools" if calls else "response_format"
        raise _refused(f"the schema of {param} cannot be enforced on answers: {error}", param) from None


def _reader(model: Any, tokenizer: Any, body: Body, ids: list[int]) -> Reader:
    """What takes calls and thoughts out of the text, for models whose way of writing them is known."""
    marked, choice = marks_calls(tokenizer.chat_template), body.get("tool_choice")
    if "tools" in body and must_call(choice):
        return Reader(calls=CallReader(marked))
    if (parser := build_response_parser(tokenizer, model, ids)) is not None:
        return Reader(parser=parser)
    return Reader(calls=CallReader(marked=True) if marked and "tools" in body and choice != "none" else None)


def _limit(model: Any, prompt: int, wanted: int | None) -> int:
    """Tokens that the answer may have, with what the context has room for; what exceeds it is refused, as by
    vLLM."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None:
        if prompt + (wanted != 0) > context:
            raise _refused(
                f"This model's maximum context length is {context} tokens; the prompt has {prompt}"
            )
        if wanted is not None and wanted > context:
            raise _refused(f"max_tokens is {wanted}, over this model's maximum context length of {context}")
    wanted = DEFAULT_MAX_TOKENS if wanted is None else wanted
    return wanted if context is None else min(wanted, context - prompt)


def _refused(sentence: str, param: str | None = None) -> HTTPException:
    return HTTPException(400, {"message": f"{sentence}.", "param": param})


async def _chunks(kind: Kind, generation: Generation, wording: Wording | None) -> AsyncIterator[bytes]:
    """The stream: chunks as of OpenAI's API, with the ids of the prompt where it is echoed, as vLLM's has."""
    calls = 0
    try:
        while (item := await generation.next()) is not None:
            if isinstance(item, BaseException):
                yield _sse({"error": _said(item)})
                return
            if not isinstance(item, Token):
                assert wording is not None
                ids = [one.token for one in item]
                yield _sse(_choice({"text": "", "logprobs": wording.text(item), "prompt_token_ids": ids}))
                continue
            logprobs = None
            if item.told is not None:
                assert wording is not None
                logprobs = wording.chat(item.told) if kind == "chat" else wording.text([item.told])
            if kind == "text":
                yield _sse(_choice({"text": item.text, "logprobs": logprobs}))
                continue
            delta: Body = {"content": item.text} if item.text else {}
            if item.thought:
                delta["reasoning_content"] = item.thought
            if item.calls:
                delta["tool_calls"] = [_call(calls + n, call) for n, call in enumerate(item.calls)]
                calls += len(item.calls)
            yield _sse(_choice({"delta": delta, "logprobs": logprobs}))
        last: Body = {"text": ""} if kind == "text" else {"delta": {}}
        reason = "tool_calls" if calls else "stop" if generation.ended else "length"
        yield _sse({**_choice({**last, "finish_reason": reason}), "usage": generation.usage})
    finally:
        generation.cancel()  # nobody listens any more


def _choice(what: Body) -> Body:
    return {"choices": [{"index": 0, **what}]}


def _call(index: int, call: ToolCall) -> Body:
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": index, "id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}


def _said(error: BaseException) -> object:
    if isinstance(error, BadForm):
        return {
            "message": f"The answer's format could not be enforced: {error}",
            "type": "invalid_request_error",
        }
    return str(error)


def _sse(body: Body) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
