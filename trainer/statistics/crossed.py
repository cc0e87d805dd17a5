"""The mean of a table of seeds × items, where both are drawn from many: its test and its interval.

A claim about methods is about seeds and items at large, so both are random effects, crossed: every item is
answered under every seed. With MS_seed, MS_item and MS_rest, the mean squares of the two-way table without
replication (Searle, Casella and McCulloch, "Variance Components", 1992, section 4.3), the mean's variance is

    (E MS_seed + E MS_item - E MS_rest) / (S I) = of_seeds + of_items,
    of_seeds = MS_seed / (S I),   of_items = max(0, MS_item - MS_rest) / (S I).

The first is known from few seeds, the second from many items. Each part counts with the quantile of its own
degrees of freedom (Banerjee, Sankhya 22, 1960, for the sum of independent variances: the error is at most
alpha, whatever their ratio):

    half-width(alpha)^2 = t_{S-1}(1 - alpha/2)^2 of_seeds + t_{I-1}(1 - alpha/2)^2 of_items,

and p is the alpha at which the half-width is the mean's distance from zero. One t with S - 1 degrees of
freedom for both parts, SE^2 = max(MS_seed, MS_seed + MS_item - MS_rest, MS_item) / (S I), errs less than it
may where the items' part is large (:func:`pooled_p`; ``trainer.statistics.calibrate`` has both).

As E MS_seed >= E MS_rest, a MS_seed smaller than the 1 % point of what MS_rest alone leads to is luck, or the
coarseness of scores that count a few answers, and is taken to be that 1 % point.

The edge. A table of one and the same value has no variance to divide by. Of I items that are all alike, a
share of up to 1 - (alpha/2)^(1/I) may be otherwise (Clopper and Pearson), by as much as the range allows.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from trainer.statistics.distributions import (
    chi_square_quantile,
    log_odds,
    roots,
    share_of,
    t_quantiles,
    t_tails,
)
from trainer.statistics.ranges import SHARE, UNBOUNDED, Bounds

#: p is not told below this: no quantile is to be trusted so far out.
LEAST_P = 1e-12
#: Of MS_seed, see above.
_LUCK = 0.01
#: Values within this of each other are one value: sums differ by rounding.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Interval:
    """A mean, and the interval that should hold the true one. Infinite ends: nothing is known."""

    mean: float
    low: float
    high: float

    def ends(self) -> dict[str, float | None]:
        """``low`` and ``high`` for JSON: null where nothing is known."""
        ends = {"low": self.low, "high": self.high}
        return {name: value if np.isfinite(value) else None for name, value in ends.items()}


@dataclass(frozen=True)
class MeanSquares:
    """Of tables (..., seeds, items): the mean, and mean squares of seeds, items and the rest; each (...)."""

    mean: np.ndarray
    seed: np.ndarray
    item: np.ndarray
    rest: np.ndarray
    seeds: int
    items: int

    def __getitem__(self, which: np.ndarray | int) -> "MeanSquares":
        """Of some of many tables."""
        return MeanSquares(
            self.mean[which], self.seed[which], self.item[which], self.rest[which], self.seeds, self.items
        )

    @cached_property
    def of_seeds(self) -> np.ndarray:
        """The seeds' part of the mean's variance; see the module."""
        return np.maximum(self.seed, _least_share(self.seeds - 1) * self.rest) / (self.seeds * self.items)

    @cached_property
    def of_items(self) -> np.ndarray:
        """The items' part."""
        return np.maximum(0.0, self.item - self.rest) / (self.seeds * self.items)

    def half_width(self, alpha: float | np.ndarray) -> np.ndarray:
        """Of the interval that holds the true mean with a chance of 1 - ``alpha``, two-sided."""
        of_seeds, of_items = (_squared_quantile(n - 1, alpha) for n in (self.seeds, self.items))
        return np.sqrt(of_seeds * self.of_seeds + of_items * self.of_items)

    def p(self) -> np.ndarray:
        """Two-sided p of a true mean of zero; needs some variance."""

        def beyond(
            log_p: np.ndarray, seeds: np.ndarray, items: np.ndarray, squared: np.ndarray
        ) -> np.ndarray:
            alpha = np.exp(log_p)
            of_seeds, of_items = (_squared_quantile(n - 1, alpha) for n in (self.seeds, self.items))
            return of_seeds * seeds + of_items * items - squared

        squared = np.asarray(self.mean**2, dtype=float)
        tables = (self.of_seeds, self.of_items, squared)
        least = np.log(LEAST_P)
        off_scale = beyond(np.full(squared.shape, least), *tables) <= 0
        # A table that is off the scale is solved for a mean of nearly zero instead, and overwritten.
        args = (self.of_seeds, self.of_items, np.where(off_scale, 0.0, squared))
        log_p = roots(beyond, np.full(squared.shape, least), np.zeros(squared.shape), args)
        return np.where(off_scale, LEAST_P, np.where(squared == 0, 1.0, np.exp(log_p)))


def mean_squares(values_SI: np.ndarray) -> MeanSquares:
    """Of one table (seeds, items) or many (..., seeds, items), with at least two seeds and two items."""
    values_SI = np.asarray(values_SI, dtype=float)
    seeds, items = values_SI.shape[-2:]
    by_seed_S, by_item_I = values_SI.mean(axis=-1), values_SI.mean(axis=-2)
    mean = by_seed_S.mean(axis=-1)
    seed = items * by_seed_S.var(axis=-1, ddof=1)
    item = seeds * by_item_I.var(axis=-1, ddof=1)
    squares = np.square(values_SI - mean[..., None, None]).sum(axis=(-2, -1))
    rest = squares - (seeds - 1) * seed - (items - 1) * item
    return MeanSquares(mean, seed, item, np.maximum(0.0, rest) / ((seeds - 1) * (items - 1)), seeds, items)


@dataclass(frozen=True)
class Estimate:
    """The mean of one table, and what may be said of the true one.

    Args:
        values_SI: (seeds, items), without gaps.
        bounds: what a true mean cannot leave: ±1 for a difference of shares, 0 and 1 for a share.

    With one seed or one item nothing is known of how others would differ: p is 1, the interval the bounds.
    """

    values_SI: np.ndarray
    bounds: Bounds = UNBOUNDED

    @cached_property
    def mean(self) -> float:
        """Over all seeds and items."""
        return float(self.values_SI.mean())

    @cached_property
    def squares(self) -> MeanSquares | None:
        """None where there is no variance: one seed, one item, or one and the same value everywhere."""
        if min(self.values_SI.shape) < 2 or self._is_one_value:
            return None
        return mean_squares(self.values_SI)

    def p(self) -> float:
        """Two-sided p of a true mean of zero."""
        if self.squares is not None:
            return float(self.squares.p())
        if not self._at_the_edge or self.mean == 0:
            return 1.0
        end = self.bounds[0] if self.mean > 0 else self.bounds[1]
        # The alpha at which the interval's end is zero.
        alike = 1.0 if np.isinf(end) else end / (end - self.mean)
        return max(LEAST_P, min(1.0, 2.0 * alike ** self.values_SI.shape[1]))

    def interval(self, alpha: float) -> Interval:
        """Of a chance of 1 - ``alpha``, two-sided, intersected with the bounds, which costs no coverage."""
        low, high = self.bounds
        if self.squares is not None:
            half = float(self.squares.half_width(alpha))
            return Interval(self.mean, max(low, self.mean - half), min(high, self.mean + half))
        if not self._at_the_edge:
            return Interval(self.mean, low, high)
        return edge_interval(self.mean, self.values_SI.shape[1], alpha, self.bounds)

    @property
    def _is_one_value(self) -> bool:
        return is_one_value(self.values_SI)

    @property
    def _at_the_edge(self) -> bool:
        return min(self.values_SI.shape) >= 2 and self._is_one_value


def is_one_value(values: np.ndarray) -> bool:
    """Whether there is no variance in them."""
    return bool(np.ptp(values) <= _EQUAL)


def edge_interval(mean: float, items: int, alpha: float, bounds: Bounds) -> Interval:
    """Where all of so many items have the value ``mean``: what those not seen may make of it."""
    low, high = bounds
    otherwise = 1.0 - (alpha / 2) ** (1 / items)
    return Interval(mean, mean - otherwise * (mean - low), mean + otherwise * (high - mean))


def share_interval(values_SI: np.ndarray, alpha: float) -> Interval:
    """Of a mean of shares (an accuracy, pass@k) within [0, 1]: the same width, on the scale of log-odds.

    Near 0 and 1 an interval of equal arms holds the true share too seldom; the delta method carries the
    half-width over to log m/(1 - m), where the ends cannot leave the range. A share of exactly 0 or 1
    everywhere is at the edge (see the module).
    """
    one = Estimate(np.asarray(values_SI, dtype=float), SHARE)
    if one.squares is None:
        return one.interval(alpha)
    odds, slope = log_odds(one.mean), one.mean * (1.0 - one.mean)
    half = float(one.squares.half_width(alpha)) / slope
    return Interval(one.mean, share_of(odds - half), share_of(odds + half))


def pooled_p(squares: MeanSquares) -> np.ndarray:
    """The simpler test: SE^2 = max(MS_seed, MS_seed + MS_item - MS_rest, MS_item) / (S I), S - 1 degrees of
    freedom. Kept as what the calibration and the published study compare the test with."""
    largest = np.maximum(squares.seed, np.maximum(squares.seed + squares.item - squares.rest, squares.item))
    error = np.sqrt(largest / (squares.seeds * squares.items))
    return t_tails(np.abs(squares.mean) / error, squares.seeds - 1)


def _squared_quantile(freedom: int, alpha: float | np.ndarray) -> np.ndarray:
    return np.square(t_quantiles(np.asarray(alpha) / 2, freedom))


@cache
def _least_share(freedom: int) -> float:
    """The 1 % point of a mean square of so many degrees of freedom, as a share of its expectation."""
    return chi_square_quantile(_LUCK, freedom) / freedom
