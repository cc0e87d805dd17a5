"""Which of the machine's GPUs a slot of a worker has, so that no two jobs meet on one.

Whatever a slot starts (a job's trainer, an estimate's probe, a replay) sees its GPUs alone; so do engines.
"""

import threading
from collections.abc import Collection
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
        return self.take_anyway(1)[0]

    def take_anyway(self, count: int) -> tuple[int, ...]:
        """So many slots, those with the fewest users, or all."""
        with self._lock:
            taken = sorted(sorted(self._users, key=self._users.__getitem__)[:count])
            for slot in taken:
                self._users[slot] += 1
            return tuple(taken)

    @property
    def free(self) -> int:
        """How many GPUs are in slots that nobody uses; without GPUs, how many such slots there are."""
        with self._lock:
            return self._count(self._unused())

    def take_together(self, gpus: int) -> tuple[int, ...]:
        """Slots that nobody uses, as many as so many GPUs are in, or all of them; without GPUs, so many."""
        with self._lock:
            taken: list[int] = []
            for slot in self._unused():
                if (found := self._count(taken)) >= gpus:
                    break
                if self._count([*taken, slot]) > found:  # not another slot of the same GPU
                    taken.append(slot)
            for slot in taken:
                self._users[slot] += 1
            return tuple(taken)

    def give_back(self, *slots: int) -> None:
        """Their GPUs are free again."""
        with self._lock:
            for slot in slots:
                self._users[slot] -= 1

    def environment(self, *slots: int) -> dict[str, str]:
        """What a process of the slots has to be told; nothing on a machine without GPUs."""
        gpus = self._gpus(slots)
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}

    def _unused(self) -> list[int]:
        return [slot for slot, users in self._users.items() if not users]

    def _count(self, slots: Collection[int]) -> int:
        return len(self._gpus(slots)) if any(self._shares) else len(slots)

    def _gpus(self, slots: Collection[int]) -> list[str]:
        """Each once, in the order of the slots."""
        return list(dict.fromkeys(gpu for slot in slots for gpu in self._shares[slot]))


def engine_slots(settings: Settings) -> Slots:
    """Those of the inference worker, a GPU each; an engine has several of them, and several may meet on one.

    How many meet is the affair of their memory. Raises TooFewGpus.
    """
    gpus, each = inventory(settings), settings.engine_gpus
    if gpus and each is not None and each > len(gpus):
        raise TooFewGpus(
            f"POLICYSPLIT_ENGINE_GPUS is {each}, but there are {len(gpus)} GPUs here ({', '.join(gpus)}): "
            f"give at most {len(gpus)}"
        )
    return Slots(shares(gpus, max(1, len(gpus)), share=False))


@lru_cache
def slots() -> Slots:
    """Those of this worker. Raises TooFewGpus."""
    settings = get_settings()
    return Slots(shares(inventory(settings), settings.worker_slots, settings.gpu_share))
