"""The policy's weights, from the trainer's memory to engines' processes and never by way of the disk.

On GPUs vLLM's own weight transfer carries them (``vllm.distributed.weight_transfer``): by CUDA IPC to engines
on the trainer's GPUs, by NCCL to engines on others. Both ends are vLLM's; what is ours is which weights, and
the pipe that its calls go through. Neither runs without CUDA, so on the CPU a weight travels as bytes through
that pipe, to a transfer engine of ours that vLLM calls as it calls its own. Names and shapes are those of a
checkpoint.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from trainer.model.policy import Policy
from trainer.model.whole import whole_weights
from trainer.rollout.vllm_protocol import TransferCall

LOOPBACK = "127.0.0.1"


@contextmanager
@torch.no_grad()
def checkpoint_weights(policy: Policy, keep: bool = True) -> Iterator[dict[str, Tensor]]:
    """The weights by the names that ``policy.save`` gives them: adapters are merged, tied ones come once.

    Those of a sharded model are put together, all of them, in the precision that is computed in; collective.
    Who does not ``keep`` them only gives its parts.
    """
    if policy.sharding is not None:
        portions = whole_weights(policy.model, policy.sharding)
        yield {name: weight for portion in portions if keep for name, weight in portion.items()}
    elif policy.adapted:
        from trainer.model.lora import merged

        with merged(policy.model):
            yield _by_saved_name(policy.model)
    else:
        yield _by_saved_name(policy.model)


def _by_saved_name(model: PreTrainedModel) -> dict[str, Tensor]:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return revert_weight_conversion(model, weights)


class Engines(Protocol):
    """The engines' end of the transfer: a call goes to all of them, and comes back when all are done."""

    def transfer(
        self,
        call: TransferCall,
        argument_of: Callable[[int], Mapping[str, object]] = lambda _: {},
        then_send: Callable[[Connection], None] | None = None,
    ) -> None:
        """``argument_of``: what the engine of a number, from 0, is given. Raises EngineFailed."""
        ...


class Sender(Protocol):
    """The trainer's end of the transfer."""

    def connect(self) -> None:
        """Before the first weights, and again when an engine was started anew."""

    def send(self) -> None:
        """The weights as they are now, to every engine. Raises EngineFailed."""


class PipeSender(Sender):
    """By bytes through the pipe."""

    def __init__(self, policy: Policy, engines: Engines | None):
        self._policy, self._engines = policy, engines

    def connect(self) -> None:
        if self._engines is not None:
            self._engines.transfer("init_weight_transfer_engine")

    def send(self) -> None:
        if self._engines is None:
            with checkpoint_weights(self._policy, keep=False):  # which may be collective
                return
        self._engines.transfer("start_weight_update")
        with checkpoint_weights(self._policy) as weights:
            self._engines.transfer("update_weights", then_send=lambda pipe: send_weights(pipe, weights))
        self._engines.transfer("finish_weight_update")


class CudaSender(Sender):
    """By vLLM's engines for CUDA.

    Args:
        rank: of this process among those that train; the first one has the engines, the others take part in
            what is collective.
        workers: processes of all engines together, where they have GPUs of their own; None on the trainer's.
        per_engine: processes of one engine.
    """

    def __init__(
        self, policy: Policy, engines: Engines | None, rank: int, workers: int | None, per_engine: int
    ):
        self._policy, self._engines, self._rank = policy, engines, rank
        self._workers, self._per_engine = workers, per_engine
        self._transfer: Any = None
        self._source = PolicySource()

    def connect(self) -> None:
        from vllm.distributed.weight_transfer import (  # pyright: ignore[reportMissingImports]
            WeightTransferTrainerFactory,
        )

        if self._transfer is not None:
            self._transfer.shutdown()
            if self._engines is not None:
                self._engines.transfer("shutdown_weight_transfer_engine")
        self._transfer = WeightTransferTrainerFactory.trainer_init(
            init_info=self._init_info(),
            client=_Client(self._engines, self._per_engine),
            source=self._source,  # pyright: ignore[reportArgumentType]
        )

    def _init_info(self) -> Any:
        if self._workers is None:
            from vllm.distributed.weight_transfer.ipc_engine import (  # pyright: ignore[reportMissingImports]
                IPCTrainerInitInfo,
            )

            return IPCTrainerInitInfo(rank=self._rank, packed=True)
        from vllm.distributed.weight_transfer.nccl_engine import (  # pyright: ignore[reportMissingImports]
            NCCLTrainerInitInfo,
        )

        with socket.create_server((LOOPBACK, 0)) as free:
            port = free.getsockname()[1]
        return NCCLTrainerInitInfo(
            master_address=LOOPBACK, master_port=port, world_size=1 + self._workers, rank=self._rank
        )

    def send(self) -> None:
        # To the end of the call: engines read the trainer's memory until then, and merged adapters are in it.
        with checkpoint_weights(self._policy) as weights:
            self._source.weights = weights
            try:
                self._transfer.send_weights()
            finally:
                self._source.weights = {}


@dataclass(frozen=True)
class _Meta:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class PolicySource:
    """What vLLM calls a WeightSource, of the weights of the moment."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def metadata(self) -> list[_Meta]:
        return [_Meta(name, weight.dtype, tuple(weight.shape)) for name, weight in self.weights.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.weights.items()


class _Client:
    """What vLLM calls a VLLMWeightSyncClient, to several engines: each has its own place in NCCL's group."""

    def __init__(self, engines: Engines | None, per_engine: int):
        self._engines, self._per_engine = engines, per_engine

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        assert self._engines is not None
        self._engines.transfer(
            "init_weight_transfer_engine", lambda number: placed(init_info, number * self._per_engine)
        )

    def start_weight_update(self) -> None:
        assert self._engines is not None
        self._engines.transfer("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        assert self._engines is not None
        self._engines.transfer("update_weights", lambda _: update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        assert self._engines is not None
        self._engines.transfer("finish_weight_update")


def placed(init_info: Mapping[str, Any], before: int) -> dict[str, Any]:
    """An engine's ``init_info``, behind ``before`` processes of other engines."""
    if "rank_offset" not in init_info:  # CUDA IPC has no group
        return dict(init_info)
    return {**init_info, "rank_offset": init_info["rank_offset"] + before}


@dataclass(frozen=True)
class SentWeight:
    """Sent ahead of a weight's bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def send_weights(connection: Connection, weights: Mapping[str, Tensor]) -> None:
    """Send ``weights``, which are on the CPU."""
    for name, weight in weights.items():
        connection.send(SentWeight(name, tuple(weight.shape), weight.dtype))
        connection.send_bytes(_as_bytes(weight.contiguous()))
    connection.send(None)


def receive_weights(connection: Connection) -> Iterator[tuple[str, Tensor]]:
    """What ``send_weights`` sends, one weight at a time. To be read to its end."""
    while (sent := connection.recv()) is not None:
        assert isinstance(sent, SentWeight)
        weight = torch.empty(sent.shape, dtype=sent.dtype)
        connection.recv_bytes_into(_as_bytes(weight))
        yield sent.name, weight


def _as_bytes(weight: Tensor) -> memoryview:
    """The weight's own memory."""
    array: Any = weight.view(-1).view(torch.uint8).numpy()
    return memoryview(array)
