"""What an experiment of a given size can see, and what size it would need: of the test in ``crossed``.

An estimated variance of few replicates is smaller than the true one more often than not: its median is
sigma^2 * median(chi^2_{n-1}) / (n-1). Each mean square is divided by that, so that a detectable difference is
as often too large as too small, and one of that size is found with the chance that is promised.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np

from trainer.statistics.crossed import MeanSquares
from trainer.statistics.distributions import (
    chi_square_quantile,
    chi_square_quantiles,
    normal_below,
    root,
    t_critical,
)

ALPHA = 0.05
POWER = 0.8
#: Of seeds: fewer are never enough to say something of their spread.
LEAST_SEEDS = 3
#: Beyond this many seeds or items an answer is "not in practice".
MOST = 10_000
#: Items are doubled while unlimited ones would save more than this share of the seeds.
_ITEMS_BOUND = 1 / 2
#: The number of seeds needed is told with its spread: for the ends of the interval with this chance of error.
SPREAD_ALPHA = 0.2
_NODES = 128


@dataclass(frozen=True)
class Design:
    """So many seeds and items, and the deviations of a difference: of a seed, of an item, of what is left."""

    seeds: int
    items: int
    seed_variance: float
    item_variance: float
    rest_variance: float

    @property
    def of_seeds(self) -> float:
        """The seeds' part of the mean's variance, as ``crossed`` has it."""
        return (self.seed_variance + self.rest_variance / self.items) / self.seeds

    @property
    def of_items(self) -> float:
        """The items' part."""
        return self.item_variance / self.items

    def power(self, effect: float, alpha: float = ALPHA) -> float:
        """The chance that a true mean of ``effect`` is found, two-sided at ``alpha``.

        Over the distribution of the estimated seeds' part; that of the items is taken as known.
        """
        spread = np.sqrt(self.of_seeds + self.of_items)
        if spread == 0:
            return float(effect != 0)
        of_seeds = _squared(self.seeds - 1, alpha) * self.of_seeds * _chi_square_nodes(self.seeds - 1)
        half_N = np.sqrt(of_seeds + _squared(self.items - 1, alpha) * self.of_items)
        found_N = normal_below((effect - half_N) / spread) + normal_below((-half_N - effect) / spread)
        return float(found_N.mean())

    def detectable(self, alpha: float = ALPHA, power: float = POWER) -> float:
        """The smallest true mean that is found with a chance of ``power``."""
        spread = float(np.sqrt(self.of_seeds + self.of_items))
        if spread == 0:
            return 0.0
        most = spread
        while self.power(most, alpha) < power:
            most *= 2
        return root(lambda effect: self.power(effect, alpha) - power, 0.0, most)


def design_of(squares: MeanSquares) -> Design:
    """What a table of differences tells of its design, each variance free of bias in the median."""
    seeds, items = squares.seeds, squares.items
    seed, item, rest = (
        float(mean_square) / _median_share(freedom)
        for mean_square, freedom in (
            (squares.seed, seeds - 1),
            (squares.item, items - 1),
            (squares.rest, (seeds - 1) * (items - 1)),
        )
    )
    return Design(seeds, items, max(0.0, seed - rest) / items, max(0.0, item - rest) / seeds, rest)


@dataclass(frozen=True)
class Needed:
    """Seeds and items that, together, would find a difference with a chance of ``POWER``.

    ``least_seeds`` and ``most_seeds`` say how sure that is: for the ends of the difference's 80 % interval;
    None: that end needs more than ``MOST``.
    """

    seeds: int
    items: int
    least_seeds: int | None
    most_seeds: int | None


def needed(design: Design, effect: float, half_width: float, alpha: float = ALPHA) -> Needed | None:
    """What it takes to find ``effect``; None where no practicable number of seeds and items does.

    The items are as many as there are, unless more of them would save half of the seeds; then they are
    doubled until they do not.

    Args:
        half_width: of the effect's interval at a chance of 80 %.
    """
    effect, items = abs(effect), design.items
    with_all = _seeds(replace(design, items=100 * MOST), effect, alpha)
    if with_all is None:
        return None
    while (seeds := _seeds(replace(design, items=items), effect, alpha)) is None or (
        with_all < _ITEMS_BOUND * seeds
    ):
        items *= 2
        if items > MOST:
            return None
    larger, smaller = (
        _seeds(replace(design, items=items), one, alpha) if one > 0 else None
        for one in (effect + half_width, effect - half_width)
    )
    return Needed(seeds, items, larger, smaller)


def _seeds(design: Design, effect: float, alpha: float) -> int | None:
    """The fewest seeds that find ``effect`` with the items that ``design`` has."""

    def enough(seeds: int) -> bool:
        return replace(design, seeds=seeds).power(effect, alpha) >= POWER

    return _smallest(enough, LEAST_SEEDS) if effect else None


def _smallest(enough: Callable[[int], bool], least: int) -> int | None:
    """The smallest number from ``least`` to ``MOST`` that is enough, where all larger ones are, too."""
    low, high = least - 1, least
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@cache
def _chi_square_nodes(freedom: int) -> np.ndarray:
    """chi^2 / freedom at the middles of equally likely parts."""
    return chi_square_quantiles((np.arange(_NODES) + 0.5) / _NODES, freedom) / freedom


@cache
def _median_share(freedom: int) -> float:
    return chi_square_quantile(0.5, freedom) / freedom


@lru_cache(maxsize=4096)
def _squared(freedom: int, alpha: float) -> float:
    return t_critical(alpha, freedom) ** 2
