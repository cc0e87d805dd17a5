"""Two models measured on the same items: whether *these models* differ, which no seeds are needed for.

For a claim about the methods that made them, see ``comparison``. Several such comparisons at once are
corrected by Holm's method over all of them (:func:`compare_several`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.statistics.crossed import Interval, edge_interval, is_one_value
from trainer.statistics.distributions import standard_error, t_critical
from trainer.statistics.multiplicity import corrected
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
        interval=interval_over_items(kept_I, bounds),
        p=sign_flip_p(kept_I, seed=seed, draws=draws),
        items=len(kept_I),
        items_left_out=int((~scored_I).sum()),
    )


@dataclass(frozen=True)
class Judged:
    """One of several comparisons, corrected over all of them."""

    comparison: ModelComparison
    #: p after Holm's correction.
    holm_p: float
    #: The interval that belongs to it, and its chance of error.
    adjusted: Interval
    adjusted_alpha: float

    @property
    def separated(self) -> bool:
        """Whether the difference may be called one."""
        return self.holm_p <= _ALPHA


def compare_several(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    bounds: Bounds = UNBOUNDED,
    seed: int = 0,
    draws: int = DRAWS,
) -> list[Judged | None]:
    """:func:`compare_models` of each pair; what all of them together may err with is 5 %.

    None where no item has both scores; such a pair counts for nothing.
    """
    found = [compare_models(first, second, bounds=bounds, seed=seed, draws=draws) for first, second in pairs]
    there = [one for one in found if one is not None]
    after = iter(corrected([one.p for one in there], _ALPHA))
    judged: list[Judged | None] = []
    for one, (first_I, second_I) in zip(found, pairs, strict=True):
        if one is None:
            judged.append(None)
            continue
        test = next(after)
        differences_I = np.asarray(first_I, dtype=float) - np.asarray(second_I, dtype=float)
        kept_I = differences_I[~np.isnan(differences_I)]
        adjusted = interval_over_items(kept_I, bounds, test.alpha)
        judged.append(Judged(one, test.p, adjusted, test.alpha))
    return judged


def interval_over_items(values_I: np.ndarray, bounds: Bounds, alpha: float = _ALPHA) -> Interval:
    """The mean of ``values_I`` (items,), and Student's interval over items at a chance of 1 - ``alpha``."""
    mean, items, (low, high) = float(values_I.mean()), len(values_I), bounds
    if items < 2:
        return Interval(mean, low, high)
    if is_one_value(values_I):
        return edge_interval(mean, items, alpha, bounds)
    half = t_critical(alpha, items - 1) * standard_error(values_I)
    return Interval(mean, max(low, mean - half), min(high, mean + half))
