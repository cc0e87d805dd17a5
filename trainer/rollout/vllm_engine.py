"""vLLM as the rollout engine: processes of their own beside the trainer, fed with each step's new weights.

    trainer ── prompts, seeds, weights ──▶ vllm_process: vLLM's LLM and the model as vLLM has it
            ◀── responses, log-probs, "still at it" ──

One on the trainer's GPU, or several replicas on GPUs of their own, over which requests are spread by prefix
and load (``trainer.rollout.spread``). One that dies while it samples is replaced: what it had not finished is
sampled again, with the same seeds, by the others, or by the one that is started in its place.

What is the same as with the built-in engine: exact prompt ids, both modes in one batch, stop tokens and their
place at the end of a response, log-probs of the distribution that was sampled from. Where requests are seeded
(``rollout.vllm.seeds``) one is drawn with its own seed, whatever else is in the batch; but vLLM's kernels
round differently in batches of different size, so a response that is cut off and drawn again in another batch
can take another turn. The same batch on the same weights gives the same responses: all requests are there
before the first one is computed.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection

import torch

from trainer.errors import EngineFailed, InvalidSpec
from trainer.graders.forced import schema_of
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.rollout.places import ALONE_HERE, Places
from trainer.rollout.spread import spread
from trainer.rollout.vllm_protocol import (
    PIPE,
    Draw,
    Failed,
    Generate,
    Setup,
    Sleep,
    Transfer,
    TransferCall,
)
from trainer.rollout.vllm_replica import Replica, exchange
from trainer.rollout.weight_transfer import CudaSender, Engines, PipeSender, Sender
from trainer.spec.model import ModelSpec
from trainer.spec.rollout import RolloutSpec, VllmSpec

log = logging.getLogger(__name__)

#: Of a GPU's memory, beside the trainer and on GPUs of its own.
BESIDE_SHARE, ALONE_SHARE = 0.4, 0.9
#: How often one call of ``generate`` replaces engines.
MOST_LOSSES = 3


class VllmEngine(RolloutEngine):
    """Starts vLLM, with the policy's weights, and waits for it. Raises InvalidSpec where it cannot work.

    Args:
        stopping: tells that the trainer is to end: an engine that says nothing is then waited for no longer,
            and none is replaced.
        with_weights: give them the policy's weights; else ``sync`` is to be called, by every rank.
    """

    def __init__(
        self,
        policy: Policy,
        model: ModelSpec,
        rollout: RolloutSpec,
        stopping: Callable[[], bool] = lambda: False,
        places: Places = ALONE_HERE,
        *,
        with_weights: bool = True,
    ):
        if importlib.util.find_spec("vllm") is None:
            raise InvalidSpec(
                "rollout.engine is 'vllm', but vLLM is not installed here: install the extra "
                "policysplit[vllm] on a GPU host, or run make install VLLM=1 for the CPU",
                "rollout.engine",
            )
        self._policy, self._places = policy, places
        self._stopping = stopping
        self.setup = engine_setup(policy, model, rollout, places)
        if self.setup.holds and policy.tokenizer.eos_token_id is None:
            raise InvalidSpec(
                "vLLM cannot enforce response_format here: the model's tokenizer has no eos_token to end "
                "such responses with. Set one in tokenizer_config.json, or give rollout.engine "
                "'transformers'",
                "rollout.force_response_format",
            )
        self._sender = weight_sender(policy, self, self.setup, places)
        self._awake, self._ahead = True, False
        self._notes: list[str] = []
        self._replicas = [Replica(self.setup, gpus) for gpus in places.gpus]
        try:
            self._ask(dict.fromkeys(self._replicas, self.setup))
            self._sender.connect()
            if with_weights:
                self.sync()
        except EngineFailed as error:
            self.close()
            raise InvalidSpec(f"vLLM cannot work with this model here: {error}", "rollout.engine") from error

    @property
    def process_ids(self) -> Sequence[int]:
        """Of those that vLLM is in."""
        return [replica.process_id for replica in self._replicas]

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
        assert self._awake, "a sleeping engine must be woken first: sending weights takes every rank"
        stop_ids = sorted(self._policy.stop_ids)
        schema = None if form is None else schema_of(form)

        def asked(indices: Sequence[int]) -> Generate:
            draws = [Draw(requests[i].prompt_ids, requests[i].seed, max_tokens) for i in indices]
            return Generate(draws, stop_ids, temperature, top_p, top_k, schema)

        found: dict[int, tuple[list[int], list[float]]] = {}
        left, losses = list(range(len(requests))), 0
        while left:
            living = self._living()
            parts = spread([requests[i] for i in left], len(living), max_tokens)
            mine = {r: [left[i] for i in part] for r, part in zip(living, parts, strict=True) if part}
            answers = exchange({r: asked(mine[r]) for r in mine}, self._stopping, on_progress=on_progress)
            lost: list[EngineFailed] = []
            for replica, answer in answers.items():
                if isinstance(answer, Failed):
                    raise EngineFailed(answer.reason)
                if isinstance(answer, EngineFailed):
                    lost.append(answer)
                else:
                    assert isinstance(answer, list)
                    found |= dict(zip(mine[replica], answer, strict=True))
            left = [i for i in left if i not in found]
            losses += len(lost)
            if lost and (self._stopping() or losses > MOST_LOSSES or not self._can_go_on()):
                raise lost[0]
            for error in lost:
                self._note(f"{error}. Its unfinished responses are sampled again")
        return [
            Sample(
                ids,
                # The certain choice of temperature 0 has probability 1, whatever the model thinks of it.
                [0.0] * len(ids) if temperature == 0 else logprobs,
                truncated=ids[-1] not in self._policy.stop_ids,
            )
            for ids, logprobs in (found[i] for i in range(len(requests)))
        ]

    def sync(self) -> None:
        if not self._awake:
            torch.cuda.empty_cache()  # what the update no longer needs
        self._replace_lost()
        self._sender.send()
        if self._policy.device.type == "cuda":
            torch.cuda.ipc_collect()
        self._awake, self._ahead = True, False

    def rest(self) -> None:
        if self.setup.sleeps and self._awake:
            self._ask({replica: Sleep() for replica in self._replicas if not replica.lost})
            self._awake = False

    @property
    def resting(self) -> bool:
        return not self._awake

    def wake(self) -> None:
        if not self._awake:
            self.sync()

    def run_ahead(self) -> None:
        self._ahead = True

    def notes(self) -> list[str]:
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        for replica in self._replicas:
            replica.close()

    def transfer(
        self,
        call: TransferCall,
        argument_of: Callable[[int], Mapping[str, object]] = lambda _: {},
        then_send: Callable[[Connection], None] | None = None,
    ) -> None:
        """A call of the weight transfer, to all engines."""
        self._ask({r: Transfer(call, argument_of(n)) for n, r in enumerate(self._replicas)}, then_send)

    def _living(self) -> list[Replica]:
        """The engines that sample, with the weights of the last ``sync``. Raises EngineFailed."""
        if not any(not replica.lost for replica in self._replicas):
            if not self._can_go_on():
                raise EngineFailed("the rollout engine's process has ended; its log is on stderr")
            self.sync()
        return [replica for replica in self._replicas if not replica.lost]

    def _can_go_on(self) -> bool:
        """Whether one is left; or one can be started, for who sends it the weights that it is to have: the
        policy has them no longer while it runs ahead, and several ranks send them together."""
        return any(not r.lost for r in self._replicas) or (self._places.alone and not self._ahead)

    def _replace_lost(self) -> None:
        """Start engines in place of those that have ended."""
        for replica in self._replicas:
            if (error := replica.found_lost()) is not None:
                self._note(f"{error}. Another one replaces it")
        lost = [number for number, replica in enumerate(self._replicas) if replica.lost]
        for number in lost:
            self._replicas[number].close()
            self._replicas[number] = Replica(self.setup, self._places.gpus[number])
        if lost:
            self._ask({self._replicas[number]: self.setup for number in lost})
            self._sender.connect()

    def _note(self, message: str) -> None:
        log.warning("%s", message)
        self._notes.append(message[0].upper() + message[1:] + ".")

    def _ask(
        self, asked: Mapping[Replica, object], then_send: Callable[[Connection], None] | None = None
    ) -> None:
        """Messages that are answered when they are done. Raises EngineFailed."""
        for answer in exchange(asked, self._stopping, then_send).values():
            if isinstance(answer, Failed):
                raise EngineFailed(answer.reason)
            if isinstance(answer, EngineFailed):
                raise answer


def engine_setup(policy: Policy, model: ModelSpec, rollout: RolloutSpec, places: Places) -> Setup:
    """What every engine is started with."""
    options = rollout.vllm or VllmSpec()
    longest = rollout.max_prompt_tokens + rollout.max_response_tokens
    on_gpu = policy.device.type == "cuda"
    return Setup(
        model=model.path,
        dtype=model.dtype,
        device_type=policy.device.type,
        max_length=min(longest, policy.context_length or longest),
        gpu_memory_share=options.gpu_memory_share or (ALONE_SHARE if places.apart else BESIDE_SHARE),
        kv_cache_bytes=options.kv_cache_bytes,
        # On GPUs of its own it is in nobody's way.
        sleeps=options.sleep and on_gpu and not places.apart,
        holds=rollout.force_response_format,
        transfer=("nccl" if places.apart else "ipc") if on_gpu else PIPE,
        tensor_parallel=places.tensor_parallel,
        seeded=(options.seeds or ("batch" if on_gpu else "request")) == "request",
    )


def weight_sender(
    policy: Policy, engines: Engines | None, setup: Setup, places: Places, rank: int = 0
) -> Sender:
    """Who sends the policy's weights; ``engines`` of the first rank, None on the others."""
    if setup.transfer == PIPE:
        return PipeSender(policy, engines)
    workers = len(places.gpus) * places.tensor_parallel if places.apart else None
    return CudaSender(policy, engines, rank, workers, places.tensor_parallel)
