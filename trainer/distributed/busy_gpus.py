"""Whether others use the GPUs of a run: told at its start, for it may be why memory runs out later."""

import os
import socket

import torch

from trainer.distributed.ranks import Ranks

#: Beyond what a driver and a context take by themselves.
OTHERS_SHARE = 0.1


def busy_gpus(ranks: Ranks) -> list[str]:
    """A sentence for each rank whose GPU is in use by others; collective, and before the model is loaded."""
    return [text for text in ranks.gather(_of_this_rank(ranks.rank)) if text is not None]


def _of_this_rank(rank: int) -> str | None:
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = torch.cuda.current_device()
    gpu = name[number] if number < len(name) and name[number] else str(number)
    return in_use(f"GPU {gpu} of {socket.gethostname()} (rank {rank})", free, total)


def in_use(gpu: str, free: int, total: int) -> str | None:
    """What to say of a GPU with so many bytes free of all, before this run has any; None: it is the run's."""
    used = total - free
    if used <= OTHERS_SHARE * total:
        return None
    return f"{gpu} is in use by other processes: they use {used / 2**30:.1f} of its {total / 2**30:.1f} GiB."
