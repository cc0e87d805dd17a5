"""``transformers serve``, the embedded default. What its release 5.19 does, read and tried:

- ``transformers_server`` answers in its place, with its model, its parsers of calls and thoughts, and its one
  thread for generating: requests are handed over one at a time.
- ``temperature`` and ``top_p`` change nothing unless the generation config says ``do_sample``, and ``top_k``
  (50 where none is set) cuts the distribution that was trained: a complete ``generation_config`` overrules
  both. It also names the stop tokens, of which the model's config has not all.
- ``seed`` seeds the one global generator when the answer begins.
- A stream whose client goes away ends at the next token and may still draw from the generator: a barrier
  request follows it.
- The stop sequence stays in the text; the gateway cuts it off.
- Continuous batching takes the sampling parameters of the first request for all later ones, so it is off.
- A path with an ``@`` is cut there as a revision, so the folder is named relative to its parent.
- ``tools`` reach the chat template as they are; calls are taken out of the text for the families whose way of
  writing them it knows and where the template shows ``<tool_call>``, and stay in it for others.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from app.core.settings import Settings
from app.inference.engine_request import EngineRequest
from worker.inference.engines.base import Call, Host, Launch, Target, tools_of
from worker.inference.engines.folders import check_model, weights_bytes
from worker.inference.engines.refusals import refused
from worker.inference.engines.stop_tokens import stop_token_ids
from worker.inference.errors import InferenceError, RequestRefused

#: Where the server listens, as an environment variable: its command line knows ports alone.
SOCKET = "POLICYSPLIT_ENGINE_SOCKET"
_SERVER = Path(__file__).with_name("transformers_server.py")
_TEMPLATE_ERROR = re.compile(r"^jinja2\.exceptions\.\w+: (.+)$", re.MULTILINE)


class TransformersEngine:
    """One ``transformers serve`` process for one model folder."""

    name = "transformers"
    serial = True
    features = frozenset(
        {
            *("prompt_token_ids", "echo", "logprobs", "top_logprobs", "response_format"),
            *("tools", "tool_choice", "parallel_tool_calls"),
            *("presence_penalty", "frequency_penalty", "logit_bias"),
        }
    )
    health_path = "/health"
    load_metrics: ClassVar[Mapping[str, str]] = {}

    def __init__(self, settings: Settings):
        # -P: the folders of the script and of the start hold no modules for it.
        self._program = settings.engine_command or [sys.executable, "-P", str(_SERVER)]
        self._arguments = settings.engine_arguments
        self._gpus = settings.engine_gpus or 1

    def target(self, folder: Path) -> Target:
        check_model(folder)
        if "@" in folder.name or folder.name.endswith(".gguf"):
            raise RequestRefused(f"the transformers server cannot open a folder named {folder.name!r}")
        return Target(Host(folder))

    def memory_bytes(self, host: Host) -> int:
        return weights_bytes(host.folder)

    def gpus(self, host: Host) -> int:
        return self._gpus

    def launch(self, host: Host, socket: Path) -> Launch:
        return Launch(
            command=[
                *self._program,
                *("serve", f"./{host.folder.name}"),
                *("--device", "auto", "--dtype", "auto"),
                *("--log-level", "error"),
                *self._arguments,
            ],
            cwd=host.folder.parent,
            environment={
                SOCKET: str(socket),
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_UPDATE_CHECK": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )

    def call(self, request: EngineRequest, adapter: Path | None) -> Call:
        config: dict[str, object] = {
            "top_k": 0,
            "typical_p": 1.0,
            "repetition_penalty": 1.0,
            "do_sample": request.temperature > 0,
        }
        if request.max_tokens is not None:
            config["max_new_tokens"] = request.max_tokens
        if request.temperature > 0:
            config |= {"temperature": request.temperature, "top_p": request.top_p}
        if stop_tokens := stop_token_ids(Path(request.folder)):
            config["eos_token_id"] = list(stop_tokens)
        if request.stop:
            config["stop_strings"] = request.stop
        body = {
            "stream": True,
            "seed": request.seed,
            "generation_config": json.dumps(config),
            **request.extras,
        }
        if request.messages is None:
            return Call("/v1/completions", {"prompt": request.prompt, **body})
        return Call("/v1/chat/completions", {**_conversation(request), **body})

    def tokenize(self, request: EngineRequest, adapter: Path | None) -> Call:
        return Call("/tokenize", _conversation(request))

    def barrier(self) -> Call | None:
        return Call("/idle", {})

    def load_adapter(self, adapter: Path) -> Call:
        raise NotImplementedError("this engine does not serve adapters")

    def unload_adapter(self, adapter: Path) -> Call:
        raise NotImplementedError("this engine does not serve adapters")

    def refusal(self, status: int, body: bytes) -> InferenceError:
        return refused(body)

    def refusal_in_log(self, log: str) -> str | None:
        found = _TEMPLATE_ERROR.findall(log)
        return f"The model's chat template does not accept these messages: {found[-1]}" if found else None


def _conversation(request: EngineRequest) -> dict[str, object]:
    return {
        "messages": request.messages,
        "chat_template_kwargs": request.chat_template_kwargs,
        **tools_of(request),
    }
