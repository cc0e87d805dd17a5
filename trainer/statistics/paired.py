"""Two models measured on the same items: whether *these models* differ, which no seeds are needed for.

For a claim about the methods that made them, see ``comparison``.
"""

from dataclasses import dataclass

import numpy as np

from trainer.statistics.crossed import Interval, edge_interval, is_one_value
from trainer.statistics.distributions import standard_error, t_critical
from trainer.statistics.permutation import DRAWS, sign_flip_p
from trainer.statistics.ranges import UNBOUNDED, Bounds

_ALPHA = 0.05


@dataclass(frozen=True)
class ModelComparison:
    """First - second, a mean over items."""

    delta: float
    #: At 95 %; without ends for one item.
    interval: Interval
    p: float
    items: int
    items_left_out: int


def compare_models(
    first_I: np.ndarray,
    second_I: np.ndarray,
    *,
    bounds: Bounds = UNBOUNDED,
    seed: int = 0,
    draws: int = DRAWS,
) -> ModelComparison | None:
    """Compare two models by their scores (items,) of the same items; None where no item has both.

    p flips signs over items; the interval is Student's over items, within ``bounds``. Where all differences
    are the same number, the share of other items that may be otherwise is bounded as in ``crossed``.

    Args:
        first_I, second_I: NaN where an item has no score; it is left out of both.
        bounds: of a difference: ±1 where scores are shares.
        seed: of the draws of signs.
    """
    differences_I = np.asarray(first_I, dtype=float) - np.asarray(second_I, dtype=float)
    scored_I = ~np.isnan(differences_I)
    kept_I = differences_I[scored_I]
    if not kept_I.size:
        return None
    return ModelComparison(
        delta=float(kept_I.mean()),
        interval=_interval(kept_I, bounds),
        p=sign_flip_p(kept_I, seed=seed, draws=draws),
        items=len(kept_I),
        items_left_out=int((~scored_I).sum()),
    )


def _interval(differences_I: np.ndarray, bounds: Bounds) -> Interval:
    mean, items, (low, high) = float(differences_I.mean()), len(differences_I), bounds
    if items < 2:
        return Interval(mean, low, high)
    if is_one_value(differences_I):
        return edge_interval(mean, items, _ALPHA, bounds)
    half = t_critical(_ALPHA, items - 1) * standard_error(differences_I)
    return Interval(mean, max(low, mean - half), min(high, mean + half))
