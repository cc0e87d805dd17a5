"""The process that vLLM is in: ``python -m trainer.rollout.vllm_process FD``, started by ``vllm_replica``.

FD is its end of the pipe. It ends when the pipe is closed.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from trainer.rollout.vllm_protocol import (
    PIPE,
    Done,
    Draw,
    Failed,
    Generate,
    Progress,
    Setup,
    Sleep,
    Transfer,
)
from trainer.seeds import derive_seed
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
    setup = None
    try:
        setup = connection.recv()
        engine = Engine(connection, setup)
        connection.send(Done())
        while True:
            connection.send(engine.answer(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        if setup is not None and setup.tensor_parallel == 1:
            # The trainer waits for the end. To take vLLM apart would be four seconds of work, and all that it
            # has is this process's; its workers, where it has some, have shared memory that it removes.
            os._exit(0)
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
    if setup.tensor_parallel > 1:
        options |= {
            "tensor_parallel_size": setup.tensor_parallel,
            "distributed_executor_backend": "mp",
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
            from vllm.config import WeightTransferConfig  # pyright: ignore[reportMissingImports]
            from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        if current_platform.device_type != setup.device_type:
            raise ValueError(
                f"the vLLM installed here is for {current_platform.device_type}, but the model is on "
                f"{setup.device_type}"
            )
        self._connection = connection
        self._on_cpu = setup.device_type == "cpu"
        self._seeded = setup.seeded
        self._asleep = False
        if setup.transfer == PIPE:
            from trainer.rollout.pipe_transfer import register_pipe

            register_pipe(connection)
        transfer = WeightTransferConfig(backend=setup.transfer)
        self._llm = LLM(**engine_options(setup), weight_transfer_config=transfer)
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
            case Transfer():
                self._transfer(message)
            case Sleep():
                self._llm.sleep(level=2)  # the weights are dropped: new ones come before the next batch
                self._asleep = True
        return Done()

    def _transfer(self, message: Transfer) -> None:
        argument = dict(message.argument)
        match message.call:
            case "init_weight_transfer_engine":
                self._llm.init_weight_transfer_engine({"init_info": argument})
            case "start_weight_update":
                if self._asleep:
                    self._llm.wake_up(tags=["weights"])
                self._llm.start_weight_update()
            case "update_weights":
                self._llm.update_weights({"update_info": argument})
            case "finish_weight_update":
                self._llm.finish_weight_update()
                self._use_new_weights()
            case "shutdown_weight_transfer_engine":
                self._llm.shutdown_weight_transfer_engine()

    def _use_new_weights(self) -> None:
        if self._on_cpu:
            self._llm.apply_model(_pack_output_layer)
        if self._asleep:
            # After the weights, whose old copies are gone by now.
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
        if not self._seeded:
            engine.collective_rpc(_seed_batch, args=(batch_seed(message.draws),))
        for number, draw in enumerate(message.draws):
            parameters = SamplingParams(
                temperature=message.temperature,
                top_p=message.top_p,
                top_k=message.top_k or 0,
                seed=draw.seed if self._seeded else None,
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
                    raise RuntimeError(f"vLLM abandoned a response: {response.finish_reason}")
                flat = response.logprobs
                # The sampled token's comes first at each position.
                logprobs = [flat.logprobs[start] for start in flat.start_indices]
                found[int(output.request_id)] = list(response.token_ids), logprobs
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self._connection.send(Progress())
        return [found[number] for number in range(len(message.draws))]


def batch_seed(draws: Sequence[Draw]) -> int:
    """One seed for a batch, from those of its requests: the same batch is drawn the same way."""
    return derive_seed(0, "batch", *(draw.seed for draw in draws))


def _seed_batch(_worker: object, seed: int) -> None:
    """On every worker of the engine, from the same one on: they draw the same tokens."""
    torch.manual_seed(seed)


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
