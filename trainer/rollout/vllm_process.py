"""The process that vLLM is in: ``python -m trainer.rollout.vllm_process FD``, started by ``vllm_engine``.

FD is its end of the pipe. It ends when the pipe is closed.
"""

import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from trainer.rollout.vllm_protocol import Done, Draw, Failed, Generate, Load, Progress, Setup, Sleep
from trainer.rollout.weight_transfer import receive_weights
from trainer.system.imports import large_imports

PROGRESS_SECONDS = 1.0
CPU_KV_CACHE_BYTES = 2 << 30
#: Tokens computed at once; prompts that are longer than this by themselves raise it.
MAX_BATCHED_TOKENS = 8192


def main() -> int:
    """Serve the trainer until it closes the pipe; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the trainer, who may want to finish its step
    connection = Connection(int(sys.argv[1]))
    try:
        engine = Engine(connection, connection.recv())
        connection.send(Done())
        while True:
            connection.send(engine.answer(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0
    except Exception as error:
        connection.send(Failed(f"{type(error).__name__}: {error}"))
        return 1


def engine_options(setup: Setup) -> dict[str, Any]:
    """The arguments of ``vllm.LLM``."""
    options: dict[str, Any] = {
        "model": setup.model,
        "dtype": setup.dtype,
        "max_model_len": setup.max_length,
        "max_num_batched_tokens": max(MAX_BATCHED_TOKENS, setup.max_length),
        "skip_tokenizer_init": not setup.holds,
        "generation_config": "vllm",
        # Of the distribution that is sampled from: after temperature, top-k and top-p.
        "logprobs_mode": "processed_logprobs",
    }
    if setup.holds:
        # The built-in engine's library, and so the same tokens.
        options["structured_outputs_config"] = {"backend": "guidance"}
    if setup.device_type == "cpu":
        return options | {
            "kv_cache_memory_bytes": setup.kv_cache_bytes or CPU_KV_CACHE_BYTES,
            # A compiled graph would keep the first weights, which the CPU's kernels hold packed.
            "enforce_eager": True,
            # vLLM 0.32 (November 2026): it steps a seeded generator back after a part of a prompt, which
            # torch cannot do on the CPU. Remove when a prompt over MAX_BATCHED_TOKENS works without.
            "enable_chunked_prefill": False,
        }
    return options | {
        "gpu_memory_utilization": setup.gpu_memory_share,
        "kv_cache_memory_bytes": setup.kv_cache_bytes,
        "enable_sleep_mode": setup.sleeps,
    }


class Engine:
    """vLLM with one model."""

    def __init__(self, connection: Connection, setup: Setup):
        with large_imports():
            from vllm import LLM  # pyright: ignore[reportMissingImports]
            from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        if current_platform.device_type != setup.device_type:
            raise ValueError(
                f"the vLLM installed here is for {current_platform.device_type}, but the model is on "
                f"{setup.device_type}"
            )
        self._connection = connection
        self._asleep = False
        self._llm = LLM(**engine_options(setup))
        if setup.holds:
            _compile_forms_at_once(self._llm.llm_engine)
        # What its kernels cannot do they tell when they are called.
        self._generate(
            Generate([Draw((0,), seed=0, max_tokens=1)], [], temperature=1.0, top_p=1.0, top_k=None)
        )

    def answer(self, message: object) -> Any:
        match message:
            case Generate():
                return self._generate(message)
            case Load():
                self._load()
            case Sleep():
                self._llm.sleep(level=2)  # the weights are dropped: new ones come with the next Load
                self._asleep = True
        return Done()

    def _load(self) -> None:
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        weights = receive_weights(self._connection)
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        finally:
            for _ in weights:  # what was not asked for stays in the pipe otherwise
                pass
        self._llm.apply_model(_pack_output_layer)
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        # Keys and values of shared prompts belong to the old weights.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not drop the cached prompts of the old weights")

    def _generate(self, message: Generate) -> list[tuple[list[int], list[float]]]:
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import (  # pyright: ignore[reportMissingImports]
            RequestOutputKind,
            StructuredOutputsParams,
        )

        engine: Any = self._llm.llm_engine
        schema = message.schema
        for number, draw in enumerate(message.draws):
            parameters = SamplingParams(
                temperature=message.temperature,
                top_p=message.top_p,
                top_k=message.top_k or 0,
                seed=draw.seed,
                max_tokens=draw.max_tokens,
                stop_token_ids=message.stop_ids,
                ignore_eos=True,  # the stop tokens are the trainer's
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                # Anew for each request: vLLM writes into it.
                structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            )
            engine.add_request(str(number), {"prompt_token_ids": list(draw.prompt_ids)}, parameters)
        found: dict[int, tuple[list[int], list[float]]] = {}
        told = time.monotonic()
        while engine.has_unfinished_requests():
            for output in engine.step():
                (response,) = output.outputs
                if response.finish_reason not in ("stop", "length"):
                    raise RuntimeError(f"vLLM gave up a response: {response.finish_reason}")
                flat = response.logprobs
                # The sampled token's comes first at each position.
                logprobs = [flat.logprobs[start] for start in flat.start_indices]
                found[int(output.request_id)] = list(response.token_ids), logprobs
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self._connection.send(Progress())
        return [found[number] for number in range(len(message.draws))]


def _compile_forms_at_once(engine: Any) -> None:
    """Let requests that are held to forms be there before the first one is computed, as others are.

    vLLM 0.32 (November 2026): it compiles forms in threads, and a request joins a batch when its form is
    ready: batches, and with them the rounding, would be others each time. Remove when that is an option.
    """
    engine.engine_core.engine_core.structured_output_manager._use_async_grammar_compilation = False


def _pack_output_layer(model: Any) -> None:
    """Let the output layer follow the input embedding that it is tied to.

    vLLM 0.32 (November 2026): on the CPU it multiplies with a packed copy of the matrix, which reload_weights
    makes anew for layers that weights were loaded into, and none is loaded into a tied output layer. Remove
    when the test of synchronised weights passes without.
    """
    from vllm.model_executor.layers import (  # pyright: ignore[reportMissingImports]
        vocab_parallel_embedding as embedding,
    )
    from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

    for module in model.modules():
        if isinstance(module, embedding.ParallelLMHead) and current_platform.is_cpu():
            module.quant_method.process_weights_after_loading(module)


if __name__ == "__main__":
    sys.exit(main())
