"""Where engines are: how many, on which GPUs, and who has them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trainer.distributed.ranks import Ranks
from trainer.errors import InvalidSpec
from trainer.spec.resources import Resources


@dataclass(frozen=True)
class Places:
    """The engines that one process has."""

    gpus: tuple[str | None, ...]
    """Of each engine, as CUDA_VISIBLE_DEVICES names them; None: it sees what the trainer does."""
    tensor_parallel: int = 1
    """GPUs of one engine."""
    apart: bool = False
    """On GPUs that do not train."""
    alone: bool = True
    """One process trains, which can send weights by itself."""


ALONE_HERE = Places((None,))


def engine_places(
    resources: Resources, device: torch.device, ranks: Ranks, environ: Mapping[str, str] = os.environ
) -> Places:
    """Where the engines are of the process that has them.

    Without ``rollout_gpus`` and ``tensor_parallel`` that is each rank, with one engine on its own GPU; else
    the first rank, with all: on the last ``rollout_gpus`` of the GPUs that it sees, or on those that train,
    so many an engine. Without GPUs there is a process for each of them. Raises InvalidSpec.
    """
    parallel, apart = resources.tensor_parallel, resources.rollout_gpus
    on_gpu = device.type == "cuda"
    if parallel > 1 and not on_gpu:
        raise InvalidSpec(
            f"resources.tensor_parallel is {parallel}, but vLLM's weights are not divided on the CPU here: "
            "leave it out",
            "resources.tensor_parallel",
        )
    if not apart and parallel == 1:
        if not on_gpu:
            return Places((None,), alone=ranks.world == 1)
        number = torch.cuda.current_device() if device.index is None else device.index
        return Places((visible_gpus(environ)[number],), alone=ranks.world == 1)
    if not on_gpu:
        return Places((None,) * apart, apart=True, alone=ranks.world == 1)
    seen = visible_gpus(environ)
    wanted = ranks.world + apart
    if len(seen) < wanted:
        raise InvalidSpec(
            f"{ranks.world} GPUs train and {apart} sample, but the process sees {len(seen)}: give it "
            f"{wanted}, or reduce resources.rollout_gpus",
            "resources.rollout_gpus",
        )
    own = seen[ranks.world : wanted] if apart else seen[: ranks.world]
    if len(own) % parallel:
        raise InvalidSpec(
            f"resources.tensor_parallel is {parallel}, but {len(own)} GPUs sample: give a divisor of that",
            "resources.tensor_parallel",
        )
    blocks = [",".join(own[i : i + parallel]) for i in range(0, len(own), parallel)]
    return Places(tuple(blocks), parallel, bool(apart), ranks.world == 1)


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """The GPUs that this process sees, by the names that a process of its own may be given."""
    named = [name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]
