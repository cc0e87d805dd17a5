"""Which of the machine's GPUs a slot of a worker has, so that no two jobs meet on one.

Known without torch: from ``POLICYSPLIT_GPUS``, else ``CUDA_VISIBLE_DEVICES``, else ``nvidia-smi``. Whatever a
slot starts (a job's trainer, an estimate's probe, a replay) sees its GPUs alone; so do engines.
"""

import os
import shutil
import subprocess
import threading
from functools import lru_cache

from app.core.settings import Settings, get_settings

QUERY_SECONDS = 30.0


class TooFewGpus(ValueError):
    """There are more slots than GPUs, and they are not to be shared."""


def inventory(settings: Settings) -> list[str]:
    """The GPUs that the worker may use, as CUDA names them; empty where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES") if settings.gpus is None else settings.gpus
    return _installed() if named is None else [one.strip() for one in named.split(",") if one.strip()]


def _installed() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver without a device
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def shares(gpus: list[str], slots: int, share: bool) -> list[tuple[str, ...]]:
    """The GPUs of each slot: as many for each, those that are left over for the first. Raises TooFewGpus."""
    if not gpus:
        return [()] * slots
    if slots <= len(gpus):
        return [tuple(gpus[slot::slots]) for slot in range(slots)]
    if not share:
        raise TooFewGpus(
            f"POLICYSPLIT_WORKER_SLOTS is {slots}, but there are {len(gpus)} GPUs here ({', '.join(gpus)}): "
            f"give {len(gpus)} slots at most, or POLICYSPLIT_GPU_SHARE=true where jobs are to share them"
        )
    return [(gpus[slot % len(gpus)],) for slot in range(slots)]


class Slots:
    """Who uses which share; called from the threads of the slots."""

    def __init__(self, shares: list[tuple[str, ...]]):
        self._users = dict.fromkeys(range(len(shares)), 0)
        self._shares = shares
        self._lock = threading.Lock()

    def take(self) -> int:
        """A slot whose GPUs nobody uses; where there is none, that with the fewest users."""
        with self._lock:
            slot = min(self._users, key=self._users.__getitem__)
            self._users[slot] += 1
            return slot

    def give_back(self, slot: int) -> None:
        """Its GPUs are free again."""
        with self._lock:
            self._users[slot] -= 1

    def environment(self, slot: int) -> dict[str, str]:
        """What a process of the slot has to be told; nothing on a machine without GPUs."""
        gpus = self._shares[slot]
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}


def engine_slots(settings: Settings) -> Slots:
    """Those of the inference worker: ``engine_gpus`` each, which several engines may meet on.

    How many meet is the affair of their memory. Raises TooFewGpus.
    """
    gpus, each = inventory(settings), settings.engine_gpus
    if gpus and each > len(gpus):
        raise TooFewGpus(
            f"POLICYSPLIT_ENGINE_GPUS is {each}, but there are {len(gpus)} GPUs here ({', '.join(gpus)}): "
            f"give {len(gpus)} at most"
        )
    return Slots(shares(gpus, max(1, len(gpus) // each), share=False))


@lru_cache
def slots() -> Slots:
    """Those of this worker. Raises TooFewGpus."""
    settings = get_settings()
    return Slots(shares(inventory(settings), settings.worker_slots, settings.gpu_share))
