"""Between the CPU, where a step is planned and told of, and the device that computes: without waiting.

On CUDA each of these waits until the device has done all it was asked: a number that is read (``float``,
``bool``, ``tolist``, ``cpu``), a copy from ordinary memory, a selection by a boolean mask (how much is it?).
Masks are known on the CPU, from rewards and lengths: what they choose is counted there (``chosen``) and goes
over from pinned memory (``placed``). What is to be told waits in a ``Pending`` and comes back in one copy.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def placed(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on ``device``; from the CPU without waiting for it."""
    if values.device.type != "cpu":
        return values.to(device)
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def onto(values: Tensor, like: Tensor) -> Tensor:
    """``values`` in the type of ``like`` and on its device: ``values.to(like)`` without waiting."""
    return placed(values.to(like.dtype), like.device)


def chosen(mask_T: Tensor, device: torch.device) -> Tensor:
    """Where a mask on the CPU is true: indices on ``device``, ascending; (T,) to (how many are,)."""
    return placed(mask_T.nonzero().squeeze(-1), device)


class Pending:
    """Values of any device that somebody waits for, until one ``fetch`` for all of them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Callable[[Tensor], None]]] = []

    def later(self, values: Tensor, take: Callable[[Tensor], None]) -> None:
        """``take`` is given ``values``, float64, on the CPU and in one dimension, when all are fetched."""
        self._waiting.append((values.detach().double().reshape(-1), take))

    def fetch(self) -> None:
        """Hand over what waits, in the order in which it came: one copy from each device."""
        waiting, self._waiting = self._waiting, []
        fetched = fetch([values for values, _ in waiting])
        for values, (_, take) in zip(fetched, waiting, strict=True):
            take(values)


class Total:
    """A float64 sum of numbers, some of which are still pending; added in the order in which they come."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, value: Tensor) -> None:
        """One number more."""
        self.value += float(value)


def fetch(values: Sequence[Tensor]) -> list[Tensor]:
    """Vectors of one type on the CPU, in their order: one copy from each device that they are on."""
    found: dict[int, Tensor] = {}
    for device in {one.device for one in values}:
        here = [at for at, one in enumerate(values) if one.device == device]
        together = torch.cat([values[at] for at in here]).cpu()
        parts = torch.split(together, [len(values[at]) for at in here])
        found |= zip(here, parts, strict=True)
    return [found[at] for at in range(len(values))]
