"""How much memory a run has needed, and needs at each step."""

import resource
import sys
from collections.abc import Sequence

import psutil
import torch

from trainer.system.host_memory import host_memory

GIB = 1 << 30


class MemoryWatch:
    """The memory of a run on ``device``. On a GPU one at a time: each step sets CUDA's peak counter back."""

    def __init__(self, device: torch.device):
        self._device = device
        self._gpu_peak = 0

    def of_step(self, engine_processes: Sequence[int]) -> dict[str, float]:
        """Metrics of the step that ends now, GiB.

        ``memory/resident_gib``: resident memory at this moment of this process and of ``engine_processes``,
        added up; pages that they share count in each. ``memory/gpu_peak_gib``, on a GPU: what torch had
        reserved at the most since the step before, in this process alone. Neither has the graders' processes.
        """
        pids = (None, *engine_processes)
        values = {"memory/resident_gib": sum(_resident(pid) for pid in pids) / GIB}
        if self._device.type == "cuda":
            values["memory/gpu_peak_gib"] = self._take_gpu_peak() / GIB
        return values

    def peak(self) -> int:
        """Bytes at the most until now: reserved on a GPU; on a CPU resident, of this process alone."""
        if self._device.type == "cuda":
            self._take_gpu_peak()
            return self._gpu_peak
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def _take_gpu_peak(self) -> int:
        """Bytes reserved at the most since this was last asked."""
        peak = torch.cuda.max_memory_reserved(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._gpu_peak = max(self._gpu_peak, peak)
        return peak


def device_memory(device: torch.device) -> int:
    """Bytes that a process can have of ``device``: a GPU's own, else the host's with its swap, or what the
    process's control group is limited to."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return host_memory()


def _resident(pid: int | None) -> int:
    """Bytes of a process, None for this one; 0 once it has ended: what needs an engine will say so."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0
