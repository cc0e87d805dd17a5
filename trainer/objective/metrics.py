"""Scalar metrics gathered over the micro-batches of a step."""

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from trainer.distributed.ranks import Ranks
from trainer.objective.transfer import Pending


class MetricSums:
    """Accumulates values under names; ``result`` gives one number a name.

    What is added stays on its device, in ``pending``, until it is asked for: then all of it comes at once.
    """

    def __init__(self) -> None:
        self.pending = Pending()
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self._maxima: dict[str, float] = {}
        self._quantiles: dict[str, tuple[float, list[Tensor]]] = {}
        self._effective: dict[str, list[Tensor]] = defaultdict(list)

    def add_mean(self, name: str, values: Tensor) -> None:
        """Average all elements ever added under ``name``."""
        if values.numel():
            self.pending.later(values.detach().double().sum(), partial(self._add_to_sum, name))
            self._weights[name] += values.numel()

    def add_known_means(self, of_names: Mapping[str, Tensor]) -> None:
        """The same of several names together; of none of them where any of the values is NaN."""
        there = {name: values for name, values in of_names.items() if values.numel()}
        if there:
            sums = torch.stack([values.detach().double().sum() for values in there.values()])
            counts = {name: values.numel() for name, values in there.items()}
            self.pending.later(sums, partial(self._add_known_sums, counts))

    def add_max(self, name: str, values: Tensor) -> None:
        """Keep the largest element ever added under ``name``."""
        if values.numel():
            self.pending.later(values.detach().max(), partial(self._add_to_maximum, name))

    def add_quantile(self, name: str, values: Tensor, quantile: float) -> None:
        """The quantile of all elements ever added under ``name``."""
        if values.numel():
            _, held = self._quantiles.setdefault(name, (quantile, []))
            self.pending.later(values, held.append)

    def add_effective_share(self, name: str, weights: Tensor) -> None:
        """Effective sample size of importance weights as a share of their number: (sum w)^2 / (n sum w^2)."""
        if weights.numel():
            self.pending.later(weights, self._effective[name].append)

    def add_up(self, ranks: Ranks) -> None:
        """Hold what all ranks together hold; collective. Added in the order of ranks: the same on each."""
        if ranks.world == 1:
            return
        self.pending.fetch()
        parts = ranks.gather(self)
        self.__init__()
        for part in parts:
            for name, value in part._sums.items():
                self._sums[name] += value
                self._weights[name] += part._weights[name]
            for name, value in part._maxima.items():
                self._maxima[name] = max(self._maxima.get(name, -math.inf), value)
            for name, (quantile, values) in part._quantiles.items():
                self._quantiles.setdefault(name, (quantile, []))[1].extend(values)
            for name, values in part._effective.items():
                self._effective[name].extend(values)

    def result(self) -> dict[str, float]:
        """All names with their number."""
        self.pending.fetch()
        values = {name: self._sums[name] / self._weights[name] for name in self._sums} | self._maxima
        for name, (quantile, parts) in self._quantiles.items():
            values[name] = float(torch.quantile(torch.cat(parts), quantile))
        for name, parts in self._effective.items():
            weights = torch.cat(parts)
            values[name] = float(weights.sum() ** 2 / (weights.numel() * (weights**2).sum()))
        return values

    def _add_to_sum(self, name: str, value: Tensor) -> None:
        self._sums[name] += float(value)

    def _add_known_sums(self, counts: Mapping[str, int], sums: Tensor) -> None:
        if not bool(sums.isnan().any()):
            for (name, count), value in zip(counts.items(), sums, strict=True):
                self._add_to_sum(name, value)
                self._weights[name] += count

    def _add_to_maximum(self, name: str, value: Tensor) -> None:
        self._maxima[name] = max(self._maxima.get(name, -math.inf), float(value))
