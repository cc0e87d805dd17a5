"""What an experiment of a given size could have seen, and what size it would have needed."""

import math

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.8
#: Beyond this many replicates an answer is "not in practice".
MOST = 10_000


def power_of_t(effect: float, deviation: float, replicates: int, alpha: float = ALPHA) -> float:
    """The chance that a two-sided t test over ``replicates`` values with mean ``effect`` rejects zero."""
    freedom = replicates - 1
    critical = stats.t.ppf(1 - alpha / 2, freedom)
    shift = abs(effect) / deviation * math.sqrt(replicates)
    power = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
    # Far out the noncentral t is not computable; with so large a shift the normal's tail is as good.
    return float(power if math.isfinite(power) else stats.norm.sf(critical - shift))


def replicates_needed(
    effect: float, deviation: float, *, least: int = 3, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """How many seeds (or items) a t test needs to see ``effect`` with chance ``power``.

    Args:
        effect: the mean difference that is to be seen.
        deviation: the standard deviation of the replicates' differences.
        least: fewer are never the answer, however large the effect.

    None where there is no effect to see, or where more than ``MOST`` would be needed.
    """
    if effect == 0:
        return None
    deviation = max(deviation, abs(effect) * 1e-3)  # an observed spread of zero is not a known one
    quantiles = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    about = (quantiles * deviation / abs(effect)) ** 2
    if about > MOST:
        return None
    replicates = max(least, math.ceil(about))  # what a z test needs: a t test, a few more
    while power_of_t(effect, deviation, replicates, alpha) < power:
        replicates += 1
    return replicates


def minimum_detectable_effect(
    differences_SI: np.ndarray, *, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest true difference that this many seeds and items would show with chance ``power``.

    c + t_{power} * SE with SE^2 = s_seeds^2 / S + s_items^2 / I of the seeds' and the items' mean differences
    (Welch and Satterthwaite's degrees of freedom) and c the half-width of the two-level interval, in which
    each level counts with its own Student quantile. None with one seed: its spread is unknown.
    """
    differences_SI = np.asarray(differences_SI, dtype=float)
    seeds, items = differences_SI.shape
    if seeds < 2 or items < 2:
        return None
    of_seeds = float(differences_SI.mean(axis=1).var(ddof=1)) / seeds
    of_items = float(differences_SI.mean(axis=0).var(ddof=1)) / items
    squared = of_seeds + of_items
    if squared == 0:
        return 0.0
    freedom = squared**2 / (of_seeds**2 / (seeds - 1) + of_items**2 / (items - 1))
    critical = math.hypot(
        stats.t.ppf(1 - alpha / 2, seeds - 1) * math.sqrt(of_seeds),
        stats.t.ppf(1 - alpha / 2, items - 1) * math.sqrt(of_items),
    )
    return float(critical + stats.t.ppf(power, freedom) * math.sqrt(squared))
