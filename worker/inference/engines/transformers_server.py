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
    """``generate_streaming``, with ``max_new_tokens`` that the context has room for."""
    config = model.config.get_text_config()
    context, prompt = getattr(config, "max_position_embeddings", None), inputs["input_ids"].shape[-1]
    wanted = gen_config.max_new_tokens
    if context is not None and prompt + (wanted or 1) > context:
        raise HTTPException(status_code=400, detail=_too_long(context, prompt, wanted))
    if wanted is None:
        gen_config.max_new_tokens = min(DEFAULT_MAX_TOKENS, (context or sys.maxsize) - prompt)
    return _stream(self, model, processor, inputs, gen_config, *rest, **options)


def _too_long(context: int, prompt: int, wanted: int | None) -> str:
    answer = f" and {wanted} for the answer" if wanted is not None and prompt < context else ""
    return (
        f"This model's maximum context length is {context} tokens, but the request has {prompt} in the "
        f"prompt{answer}. Shorten it."
    )


def install() -> None:
    """Put the check in front of the server's streaming."""
    setattr(GenerateManager, "generate_streaming", generate_within_context)  # noqa: B010


if __name__ == "__main__":
    install()
    sys.exit(main())
