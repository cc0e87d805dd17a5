"""A number of each seed (an entropy, a divergence): Student's interval and test of its mean."""

import numpy as np

from trainer.statistics.crossed import Interval
from trainer.statistics.distributions import standard_error, t_critical, t_test_p


def mean_interval(values_S: np.ndarray, alpha: float = 0.05) -> Interval:
    """Of a chance of 1 - ``alpha``, two-sided; without ends for one seed, whose spread is unknown."""
    values_S = np.asarray(values_S, dtype=float)
    mean = float(values_S.mean())
    if len(values_S) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = t_critical(alpha, len(values_S) - 1) * standard_error(values_S)
    return Interval(mean, mean - half, mean + half)


def mean_p(values_S: np.ndarray) -> float:
    """Two-sided p of a true mean of zero; 1 for one seed.

    Values that are all the same number have no spread to compare with: p is 1 for zeros, else 0.
    """
    values_S = np.asarray(values_S, dtype=float)
    if len(values_S) < 2:
        return 1.0
    if np.ptp(values_S) == 0:
        return float(values_S[0] == 0)
    return t_test_p(values_S)
