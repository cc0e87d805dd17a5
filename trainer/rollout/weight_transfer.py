"""The policy's weights, from the trainer's memory to an engine's process and never by way of the disk.

On the CPU a weight travels as bytes through the pipe that connects the two; on a GPU only its CUDA IPC handle
does, and the engine copies from the trainer's memory directly. Names and shapes are those of a checkpoint.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import rebuild_cuda_tensor, reduce_tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from trainer.model.policy import Policy

#: Where ``reduce_tensor`` puts the device's number, which the engine's process counts from its own first one.
DEVICE_ARGUMENT = 6


@dataclass(frozen=True)
class SentWeight:
    """Sent ahead of a weight; ``ipc``: the arguments of ``rebuild_cuda_tensor``, None where bytes follow."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    ipc: tuple[object, ...] | None = None


@contextmanager
@torch.no_grad()
def checkpoint_weights(policy: Policy) -> Iterator[dict[str, Tensor]]:
    """The weights by the names that ``policy.save`` gives them: adapters are merged, tied ones come once."""
    if policy.adapted:
        from trainer.model.lora import merged

        with merged(policy.model):
            yield _by_saved_name(policy.model)
    else:
        yield _by_saved_name(policy.model)


def _by_saved_name(model: PreTrainedModel) -> dict[str, Tensor]:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return revert_weight_conversion(model, weights)


def send_weights(connection: Connection, weights: dict[str, Tensor]) -> None:
    """Send ``weights``, which must stay as they are until the receiver has said that it is done."""
    for name, weight in weights.items():
        shape, dtype = tuple(weight.shape), weight.dtype
        if weight.is_cuda:
            connection.send(SentWeight(name, shape, dtype, reduce_tensor(weight)[1]))
        else:
            connection.send(SentWeight(name, shape, dtype))
            connection.send_bytes(_as_bytes(weight.contiguous()))
    connection.send(None)


def receive_weights(connection: Connection) -> Iterator[tuple[str, Tensor]]:
    """What ``send_weights`` sends, one weight at a time. To be read to its end."""
    while (sent := connection.recv()) is not None:
        assert isinstance(sent, SentWeight)
        if sent.ipc is not None:
            arguments = list(sent.ipc)
            arguments[DEVICE_ARGUMENT] = torch.cuda.current_device()
            yield sent.name, rebuild_cuda_tensor(*arguments)
        else:
            weight = torch.empty(sent.shape, dtype=sent.dtype)
            connection.recv_bytes_into(_as_bytes(weight))
            yield sent.name, weight


def _as_bytes(weight: Tensor) -> memoryview:
    """The weight's own memory."""
    array: Any = weight.view(-1).view(torch.uint8).numpy()
    return memoryview(array)
