"""Which of the machine's GPUs a slot of a worker has, so that no two jobs meet on one.

Whatever a slot starts (a job's trainer, an estimate's probe, a replay) sees its GPUs alone; so do engines.
"""

import threading
from functools import lru_cache

from app.core.gpus import TooFewGpus, inventory, shares
from app.core.settings import Settings, get_settings


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
            f"give at most {len(gpus)}"
        )
    return Slots(shares(gpus, max(1, len(gpus) // each), share=False))


@lru_cache
def slots() -> Slots:
    """Those of this worker. Raises TooFewGpus."""
    settings = get_settings()
    return Slots(shares(inventory(settings), settings.worker_slots, settings.gpu_share))
