"""``transformers serve`` that refuses what does not fit the model's context, before it computes.

Run as a script in the engine's process; of release 5.19 the server lets a prompt of any length in and
generates past the context's end, where models say anything. The status 400 with a sentence is its own way of
refusing.
"""

import os
import sys
from typing import Any

from fastapi import HTTPException
from transformers.cli.serving.utils import GenerateManager
from transformers.cli.transformers import main

DEFAULT_MAX_TOKENS = int(os.environ.get("DEFAULT_MAX_TOKENS", "1024"))
_stream = GenerateManager.generate_streaming


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


def _refused(sentence: str) -> HTTPException:
    return HTTPException(status_code=400, detail=f"{sentence}.")


def install() -> None:
    """Put the check in front of the server's streaming."""
    setattr(GenerateManager, "generate_streaming", generate_within_context)  # noqa: B010


if __name__ == "__main__":
    install()
    sys.exit(main())
