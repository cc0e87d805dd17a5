"""``transformers serve`` at a socket, with answers of our own: it loads the model and renders as training.

Run as a script in the engine's process. Of release 5.19 the server changes messages, knows no
log-probabilities, forms or choices of tools, and checks no prompt against the context: the two endpoints are
answered here (``transformers_answers``). The status 400 with a sentence is the way of refusing.
"""

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from app.core.strict_json import JsonObject
from trainer.system.imports import large_imports

with large_imports():
    from transformers import AutoModelForCausalLM  # noqa: F401  # with what any model's class imports
    from transformers.cli.serving import server
    from transformers.cli.transformers import main

    from worker.inference.engines.transformers_answers import Answers

_build = server.build_server


def _build_server(model_manager: Any, chat_handler: Any, **others: Any) -> FastAPI:
    answers = Answers(chat_handler)
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(body: JsonObject) -> StreamingResponse:
        return await answers.chat(body)

    @app.post("/v1/completions")
    async def text(body: JsonObject) -> StreamingResponse:
        return await answers.text(body)

    @app.post("/tokenize")
    def tokenize(body: JsonObject) -> dict[str, list[int]]:
        return {"tokens": answers.rendered(body)}

    @app.post("/idle")
    async def idle() -> None:
        await answers.idle()

    # The routes above come first.
    built = _build(model_manager, chat_handler, **others)
    built.router.routes[:0] = app.router.routes
    return built


class AtTheSocket(uvicorn.Config):
    """Listens at the socket, whatever host and port the command line says."""

    def __init__(self, app: FastAPI | str, **options: Any):
        super().__init__(app, **{**options, "uds": os.environ["POLICYSPLIT_ENGINE_SOCKET"]})


def install() -> None:
    """Put the answers of our own before the server's, and the server behind the socket."""
    setattr(server, "build_server", _build_server)  # noqa: B010
    setattr(uvicorn, "Config", AtTheSocket)  # noqa: B010


if __name__ == "__main__":
    install()
    sys.exit(main())
