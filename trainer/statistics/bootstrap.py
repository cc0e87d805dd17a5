"""The confidence interval of a paired difference that has two sources of chance: seeds and items.

Two-level paired bootstrap: draw seeds with return, then items with return, and average. The same items are
measured under every seed, so a draw takes its items once and not anew for each seed (the bootstrap of crossed
factors: Owen, "The pigeonhole bootstrap", 2007): drawn per seed, S * I measurements would count as that many
items and intervals would be too narrow.

With three to five seeds a plain percentile interval is too narrow as well: the bootstrap's variance is short
by (S - 1)/S, and its tails are those of a normal instead of Student's distribution. Each level's part of a
draw is therefore stretched by sqrt(k / (k - 1)) * t_{k-1} / z (Hesterberg 2015, "What teachers should know
about the bootstrap", section 5.3, there for one level). What this makes of coverage is tested by simulation.

A check of the interval that claims are read from (``trainer.statistics.crossed``), which assumes more.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.statistics.crossed import Interval
from trainer.statistics.distributions import normal_quantile, t_quantile

DRAWS = 10_000
LEVEL = 0.95


def two_level_interval(
    differences_SI: np.ndarray, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """The mean of paired differences over seeds and items, with its interval.

    Args:
        differences_SI: method - baseline, (seeds, items), both with the same seeds and items.
        seed: of the draws; the same input gives the same interval.
        level: of the interval, two-sided.

    With one seed the interval speaks of the items alone.
    """
    differences_SI = np.asarray(differences_SI, dtype=float)
    seeds, items = differences_SI.shape
    mean = float(differences_SI.mean())
    random = np.random.default_rng(seed)
    seed_weights_BS = _resampled(random, draws, seeds)
    item_weights_BI = _resampled(random, draws, items)
    total_B = np.einsum("bi,bi->b", seed_weights_BS @ differences_SI, item_weights_BI)
    seed_part_B = seed_weights_BS @ differences_SI.mean(axis=1) - mean
    item_part_B = item_weights_BI @ differences_SI.mean(axis=0) - mean
    rest_B = total_B - mean - seed_part_B - item_part_B
    stretched_B: NDArray[np.float64] = (
        mean + stretch(seeds, level) * seed_part_B + stretch(items, level) * item_part_B + rest_B
    )
    low, high = np.quantile(stretched_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def _resampled(random: np.random.Generator, draws: int, size: int) -> np.ndarray:
    """Weights of a bootstrap: (draws, size), how often each element was drawn, as a share."""
    return random.multinomial(size, np.full(size, 1 / size), size=draws) / size


def stretch(size: int, level: float) -> float:
    """What a level of ``size`` units wants its deviations multiplied by; 1 for a large one."""
    if size < 2:
        return 1.0
    quantile = (1 + level) / 2
    return float(np.sqrt(size / (size - 1)) * t_quantile(quantile, size - 1) / normal_quantile(quantile))
