"""vLLM as the rollout engine: a process of its own beside the trainer, fed with each step's new weights.

    trainer ── prompts, seeds, weights ──▶ vllm_process: vLLM's LLM and the model as vLLM has it
            ◀── responses, log-probs, "still at it" ──

Of its own, because vLLM changes torch for the whole process it is in (threads, streams, process groups). A
guard ends it with the trainer, however that ends; the trainer ends it when it is stopped or hangs.

What is the same as with the built-in engine: exact prompt ids, both modes in one batch, stop tokens and their
place at the end of a response, log-probs of the distribution that was sampled from. A request is drawn with
its own seed, whatever else is in the batch; but vLLM's kernels round differently in batches of different
size, so a response that is cut off and drawn again in another batch can take another turn. The same batch on
the same weights gives the same responses: all requests are there before the first one is computed.
"""

import importlib.util
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from trainer.errors import EngineFailed, InvalidSpec
from trainer.graders.forced import schema_of
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.rollout.vllm_protocol import Draw, Failed, Generate, Load, Progress, Setup, Sleep
from trainer.rollout.weight_transfer import checkpoint_weights, send_weights
from trainer.spec.model import ModelSpec
from trainer.spec.run import RolloutSpec, VllmSpec
from trainer.system.guarded import Guarded

NOT_INHERITED = {
    # torchrun tells a rank who it is; the engine's process is not a rank.
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    # An older way to say kv_cache_bytes, which would win.
    "VLLM_CPU_KVCACHE_SPACE",
}
SECONDS_TO_END = 10.0
STDERR = 2
#: How often the process is looked at, and for how long it may be stopped (by SIGSTOP, a debugger).
LOOK_SECONDS, STOPPED_SECONDS = 1.0, 10.0
#: How long it may say nothing: while it starts or takes weights, while it samples, when a stop was asked for.
LOAD_SECONDS, SILENT_SECONDS, STOPPING_SECONDS = 1800.0, 600.0, 10.0


class VllmEngine(RolloutEngine):
    """Starts vLLM, with the policy's weights, and waits for it. Raises InvalidSpec where it cannot work.

    ``stopping`` tells that the trainer is to end: an engine that says nothing is then waited for no longer.
    """

    def __init__(
        self,
        policy: Policy,
        model: ModelSpec,
        rollout: RolloutSpec,
        stopping: Callable[[], bool] = lambda: False,
    ):
        if importlib.util.find_spec("vllm") is None:
            raise InvalidSpec(
                "rollout.engine is 'vllm', but vLLM is not installed here: install the extra "
                "policysplit[vllm] on a GPU host, or run make install VLLM=1 for the CPU",
                "rollout.engine",
            )
        self._policy = policy
        self._stopping = stopping
        self._heard = 0.0
        options = rollout.vllm or VllmSpec()
        longest = rollout.max_prompt_tokens + rollout.max_response_tokens
        self.setup = Setup(
            model=model.path,
            dtype=model.dtype,
            device_type=policy.device.type,
            max_length=min(longest, policy.context_length or longest),
            gpu_memory_share=options.gpu_memory_share,
            kv_cache_bytes=options.kv_cache_bytes,
            sleeps=options.sleep and policy.device.type == "cuda",
            holds=rollout.force_response_format,
        )
        if self.setup.holds and policy.tokenizer.eos_token_id is None:
            raise InvalidSpec(
                "vLLM cannot enforce response_format here: the model's tokenizer has no eos_token to end "
                "such responses with. Set one in tokenizer_config.json, or give rollout.engine "
                "'transformers'",
                "rollout.force_response_format",
            )
        self._awake = True
        self._connection, theirs = Pipe()
        self._process = _start_process(theirs, policy.device)
        theirs.close()
        # Also when nobody calls close: at the latest when the interpreter ends.
        self._end = weakref.finalize(self, _end_process, self._process, self._connection)
        try:
            self._ask(self.setup)
            self.sync()
        except EngineFailed as error:
            self.close()
            raise InvalidSpec(f"vLLM cannot work with this model here: {error}", "rollout.engine") from error

    @property
    def process_ids(self) -> Sequence[int]:
        """Of the one process that vLLM is in."""
        return (self._process.pid,)

    @property
    def has_own_weights(self) -> bool:
        return True

    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        form: ResponseFormat | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        if not self._awake:
            self.sync()
        stop_ids = sorted(self._policy.stop_ids)
        draws = [Draw(r.prompt_ids, r.seed, max_tokens) for r in requests]
        schema = None if form is None else schema_of(form)
        asked = Generate(draws, stop_ids, temperature, top_p, top_k, schema)
        found = self._ask(asked, on_progress=on_progress)
        return [
            Sample(
                ids,
                # The certain choice of temperature 0 has probability 1, whatever the model thinks of it.
                [0.0] * len(ids) if temperature == 0 else logprobs,
                truncated=ids[-1] not in self._policy.stop_ids,
            )
            for ids, logprobs in found
        ]

    def sync(self) -> None:
        if not self._awake:
            torch.cuda.empty_cache()  # what the update no longer needs
        with checkpoint_weights(self._policy) as weights:
            self._ask(Load(), lambda: send_weights(self._connection, weights))
        if self._policy.device.type == "cuda":
            torch.cuda.ipc_collect()
        self._awake = True

    def rest(self) -> None:
        if self.setup.sleeps and self._awake:
            self._ask(Sleep())
            self._awake = False

    def close(self) -> None:
        self._end()

    def _ask(
        self,
        message: object,
        then_send: Callable[[], None] | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> Any:
        """Send ``message`` and what belongs to it; the answer. Raises EngineFailed."""
        given_up: list[str] = []
        try:
            limit = SILENT_SECONDS if isinstance(message, Generate) else LOAD_SECONDS
            with self._watched(limit, given_up):
                with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before it ended
                    self._connection.send(message)
                    if then_send is not None:
                        then_send()
                while isinstance(answer := self._connection.recv(), Progress):
                    self._heard = time.monotonic()
                    if on_progress is not None:
                        on_progress()
        except (EOFError, OSError) as error:
            code = self._process.close()
            how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
            if given_up:
                how = f"{given_up[0]} and was ended"
            raise EngineFailed(f"the rollout engine's process {how}; its log is on stderr") from error
        if isinstance(answer, Failed):
            raise EngineFailed(answer.reason)
        return answer

    @contextmanager
    def _watched(self, limit: float, given_up: list[str]) -> Iterator[None]:
        """Within the block the process is ended when it is stopped or says nothing; why, in ``given_up``.

        By a thread: the block may be writing to a pipe that nobody reads, or reading half a message.
        """
        over = threading.Event()
        self._heard = time.monotonic()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                silent = time.monotonic() - self._heard
                if silent > STOPPED_SECONDS and _is_stopped(self._process.pid):
                    given_up.append("was stopped (SIGSTOP)")
                elif silent > (STOPPING_SECONDS if self._stopping() else limit):
                    given_up.append(f"reported nothing for {silent:.0f} s")
                else:
                    continue
                self._process.close()
                return

        thread = threading.Thread(target=watch, name="engine-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _is_stopped(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


def _start_process(theirs: Connection, device: torch.device) -> Guarded:
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environment |= {
        # The engine and its scheduler in one process, where the weights can be reached.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    environment.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if device.type == "cpu":
        # vLLM compiles two small functions with the C++ compiler even so: ten seconds, and nothing is faster.
        environment["TORCH_COMPILE_DISABLE"] = "1"
    if device.type == "cuda":
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        number = torch.cuda.current_device() if device.index is None else device.index
        environment["CUDA_VISIBLE_DEVICES"] = visible[number] if visible else str(number)
    safely = ["-P"] if sys.flags.safe_path else []  # as this process was started
    command = [sys.executable, *safely, "-m", "trainer.rollout.vllm_process", str(theirs.fileno())]
    return Guarded(command, stdout=STDERR, stderr=STDERR, environment=environment, pass_fds=[theirs.fileno()])


def _end_process(process: Guarded, connection: Connection) -> None:
    connection.close()
    process.wait(SECONDS_TO_END)
    process.close()
