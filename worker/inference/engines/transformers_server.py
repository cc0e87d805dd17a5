"""``transformers serve`` at a socket: it renders as training does, and refuses what exceeds the context.

Run as a script in the engine's process. Of release 5.19 the server leaves ``name`` out of messages, and the
content of those with calls of tools: they come here in the form that templates know, and stay as they are.
It lets a prompt of any length in and generates past the context's end, where models say anything. The status
400 with a sentence is its own way of refusing.
"""

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException

from trainer.system.imports import large_imports

with large_imports():
    from transformers import AutoModelForCausalLM  # noqa: F401  # with what any model's class imports
    from transformers.cli.serving import server
    from transformers.cli.serving.utils import BaseHandler, GenerateManager
    from transformers.cli.transformers import main

DEFAULT_MAX_TOKENS = int(os.environ.get("DEFAULT_MAX_TOKENS", "1024"))
_stream = GenerateManager.generate_streaming
_build = server.build_server


def generate_within_context(
    self: Any, model: Any, processor: Any, inputs: Any, gen_config: Any, *rest: Any, **options: Any
) -> Any:
    """``generate_streaming``, with ``max_new_tokens`` that the context has room for, as vLLM does it."""
    config = model.config.get_text_config()
    context, prompt = getattr(config, "max_position_embeddings", None), inputs["input_ids"].shape[-1]
    wanted = gen_config.max_new_tokens
    if context is not None:
        if prompt >= context:
            raise _refused(
                f"This model's maximum context length is {context} tokens; the prompt has {prompt}"
            )
        if wanted is not None and wanted > context:
            raise _refused(f"max_tokens is {wanted}, over this model's maximum context length of {context}")
    room = sys.maxsize if context is None else context - prompt
    gen_config.max_new_tokens = min(wanted or DEFAULT_MAX_TOKENS, room)
    return _stream(self, model, processor, inputs, gen_config, *rest, **options)


def _as_they_are(messages: list[dict[str, object]], modality: object) -> list[dict[str, object]]:
    return messages


def _build_server(model_manager: Any, chat_handler: Any, **others: Any) -> FastAPI:
    app = _build(model_manager, chat_handler, **others)

    @app.post("/tokenize")
    def tokenize(body: dict[str, object]) -> dict[str, list[int]]:
        """The token ids of a conversation, rendered as for an answer."""
        _, _, tokenizer = chat_handler._resolve_model({})
        messages = chat_handler.get_processor_inputs_from_messages(body["messages"], None)
        ids = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tools=body.get("tools"),
            tokenize=True,
            return_dict=True,
            **chat_handler.chat_template_kwargs | body["chat_template_kwargs"],
        )["input_ids"]
        return {"tokens": ids}

    return app


def _refused(sentence: str) -> HTTPException:
    return HTTPException(status_code=400, detail=f"{sentence}.")


class AtTheSocket(uvicorn.Config):
    """Listens at the socket, whatever host and port the command line says."""

    def __init__(self, app: FastAPI | str, **options: Any):
        super().__init__(app, **{**options, "uds": os.environ["POLICYSPLIT_ENGINE_SOCKET"]})


def install() -> None:
    """Put the server behind the socket and the check in front of its streaming; add ``/tokenize``."""
    setattr(BaseHandler, "get_processor_inputs_from_messages", staticmethod(_as_they_are))  # noqa: B010
    setattr(server, "build_server", _build_server)  # noqa: B010
    setattr(GenerateManager, "generate_streaming", generate_within_context)  # noqa: B010
    setattr(uvicorn, "Config", AtTheSocket)  # noqa: B010


if __name__ == "__main__":
    install()
    sys.exit(main())
