"""How much memory a run has needed."""

import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Bytes at the most until now: reserved on a GPU; on a CPU resident, of this process alone."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
