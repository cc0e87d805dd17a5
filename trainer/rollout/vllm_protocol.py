"""What the trainer and the engine's process say to each other; one answer a message, Progress in between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

#: The weight transfer that is not vLLM's.
PIPE = "pipe"

TransferCall = Literal[
    "init_weight_transfer_engine",
    "start_weight_update",
    "update_weights",
    "finish_weight_update",
    "shutdown_weight_transfer_engine",
]


@dataclass(frozen=True)
class Setup:
    """The first message. ``max_length``: prompt and response together, tokens."""

    model: str
    dtype: str
    device_type: str
    max_length: int
    gpu_memory_share: float
    kv_cache_bytes: int | None
    sleeps: bool
    holds: bool
    """Whether responses may be held to forms."""
    transfer: str
    """Which of vLLM's weight-transfer engines takes weights: ``ipc``, ``nccl``; PIPE is our own."""
    tensor_parallel: int = 1
    seeded: bool = True
    """Whether each request has a seed, or a batch has one."""


class Draw(NamedTuple):
    """One response to sample."""

    prompt_ids: tuple[int, ...]
    seed: int
    max_tokens: int


@dataclass(frozen=True)
class Generate:
    """Answered with a pair (token ids, their log-probs) for each of ``draws``, in order."""

    draws: Sequence[Draw]
    stop_ids: list[int]
    temperature: float
    top_p: float
    top_k: int | None
    schema: dict[str, object] | None = None
    """What they are held to (``trainer.graders.forced.schema_of``)."""


@dataclass(frozen=True)
class Transfer:
    """A call of vLLM's weight transfer, with what it is given. New weights wake an engine that sleeps."""

    call: TransferCall
    argument: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class Sleep:
    """Free the GPU's memory. The next message is of new weights."""


@dataclass(frozen=True)
class Progress:
    """Still at it."""


@dataclass(frozen=True)
class Done:
    """Answers what has nothing to tell."""


@dataclass(frozen=True)
class Failed:
    """The last answer: the process ends."""

    reason: str
