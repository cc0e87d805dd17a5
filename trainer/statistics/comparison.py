"""One arm against another on one task: the difference, how sure it is, and whether it may be called a win.

The unit is an item's score, a mean over its samples; runs are paired by seed and by item. A difference
*separates* two arms when all of these hold:

1. at least ``LEAST_SEEDS`` seeds, and nothing that withholds a verdict, such as planned runs that wait;
2. the test of seeds and items at large (``crossed``), corrected by Holm over the family that it is judged in,
   has p at or below the family's level. The interval that belongs to it then excludes zero.

Beside it stand the sign-flip test over items, which asks another question, whether *these trained models*
differ: two seeds of one algorithm do, on enough items; and the two-level bootstrap's interval, a check.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trainer.statistics.bootstrap import DRAWS, two_level_interval
from trainer.statistics.crossed import Estimate, Interval
from trainer.statistics.multiplicity import corrected
from trainer.statistics.permutation import sign_flip_p
from trainer.statistics.power import (
    ALPHA,
    LEAST_SEEDS,
    MOST,
    SPREAD_ALPHA,
    Needed,
    design_of,
    needed,
)
from trainer.statistics.ranges import UNBOUNDED, Bounds
from trainer.statistics.wording import with_interval

#: A run's item scores by its seed.
SeedScores = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """``method`` - ``baseline`` on ``task``. Differences are in the metric's own unit."""

    task: str
    method: str
    baseline: str
    seeds: tuple[int, ...]
    items: int
    items_left_out: int
    delta: float
    #: Of the test, at 95 %.
    interval: Interval
    #: The difference of each seed, a mean over items.
    seed_deltas: tuple[float, ...]
    #: Their standard deviation; None for one seed.
    seed_std: float | None
    #: Of the test: seeds and items at large.
    p: float
    #: ``p`` corrected by Holm over the family, and the interval that belongs to it; set by :func:`judged`.
    holm_p: float
    adjusted: Interval
    adjusted_alpha: float
    #: What ``holm_p`` is held against; and what the smallest p of the family is.
    level: float
    first_level: float
    #: Of the sign-flip test over items.
    these_models_p: float
    bootstrap: Interval
    #: Why no verdict may be read, whatever the test says.
    withheld: str | None
    estimate: Estimate = field(repr=False, compare=False)

    @property
    def has_seeds_enough(self) -> bool:
        """Whether anything may be said of the difference."""
        return len(self.seeds) >= LEAST_SEEDS

    @property
    def separated(self) -> bool:
        """Whether the difference may be called one."""
        return self.has_seeds_enough and self.withheld is None and self.holm_p <= self.level

    @property
    def winner(self) -> str | None:
        """The better arm, where the two are separated."""
        if not self.separated:
            return None
        return self.method if self.delta > 0 else self.baseline

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that is found with a chance of ``POWER`` by the first test of the
        family; None where no variance is known."""
        squares = self.estimate.squares
        return None if squares is None else design_of(squares).detectable(self.first_level)

    @property
    def needed(self) -> Needed | None:
        """What it would take to find the difference that was seen, in the same way."""
        squares = self.estimate.squares
        if squares is None:
            return None
        half_width = float(squares.half_width(SPREAD_ALPHA))
        return needed(design_of(squares), self.delta, half_width, self.first_level)

    @property
    def words(self) -> str:
        """The difference with the interval that its verdict is read off."""
        words = f", {100 * (1 - self.adjusted_alpha):.4g} % CI"
        return with_interval(self.delta, self.adjusted.low, self.adjusted.high, words)


def compare(
    task: str,
    method: str,
    baseline: str,
    method_scores: SeedScores,
    baseline_scores: SeedScores,
    *,
    bounds: Bounds = UNBOUNDED,
    withheld: str | None = None,
    draws: int = DRAWS,
) -> Comparison | None:
    """Compare two arms on the seeds that both have; None where they share no seed or no item.

    Args:
        method_scores: item scores (items,) by seed; an item without a score in any of the paired runs is
            left out of all of them.
        bounds: of a difference of scores: ±1 where they are shares.
        withheld: why no verdict may be read.
        draws: of the bootstrap and the sign-flip test; the same scores give the same ones.

    Judged alone; :func:`judged` judges it with others.
    """
    seeds = tuple(sorted(method_scores.keys() & baseline_scores.keys()))
    if not seeds:
        return None
    differences_SI = np.stack([method_scores[one] - baseline_scores[one] for one in seeds])
    scored_I = ~np.isnan(differences_SI).any(axis=0)
    differences_SI = differences_SI[:, scored_I]
    if not differences_SI.size:
        return None
    estimate = Estimate(differences_SI, bounds)
    by_seed_S, by_item_I = differences_SI.mean(axis=1), differences_SI.mean(axis=0)
    p, interval = estimate.p(), estimate.interval(ALPHA)
    return Comparison(
        task=task,
        method=method,
        baseline=baseline,
        seeds=seeds,
        items=len(by_item_I),
        items_left_out=int((~scored_I).sum()),
        delta=estimate.mean,
        interval=interval,
        seed_deltas=tuple(float(one) for one in by_seed_S),
        seed_std=float(by_seed_S.std(ddof=1)) if len(seeds) > 1 else None,
        p=p,
        holm_p=p,
        adjusted=interval,
        adjusted_alpha=ALPHA,
        level=ALPHA,
        first_level=ALPHA,
        these_models_p=sign_flip_p(by_item_I, draws=draws),
        bootstrap=two_level_interval(differences_SI, draws=draws),
        withheld=withheld,
        estimate=estimate,
    )


def judged(
    family: Sequence[Comparison],
    level: float = ALPHA,
    *,
    ps: Sequence[float] | None = None,
    hypotheses: Sequence[Hashable] | None = None,
) -> list[Comparison]:
    """The comparisons with Holm's correction over all of them.

    Args:
        level: what the family as a whole may err with.
        ps: in place of the comparisons' own p.
        hypotheses: comparisons of one hypothesis (arms whose runs are the same) count once.
    """
    holm = corrected([one.p for one in family] if ps is None else ps, level, hypotheses)
    size = len(family if hypotheses is None else set(hypotheses))
    return [
        replace(
            one,
            holm_p=fixed.p,
            adjusted=one.estimate.interval(fixed.alpha),
            adjusted_alpha=fixed.alpha,
            level=level,
            first_level=level / size,
        )
        for one, fixed in zip(family, holm, strict=True)
    ]


def verdict(one: Comparison) -> str:
    """One sentence: who wins, or why nobody is named and what it would take."""
    sure = f"{one.method} − {one.baseline} = {one.words}, Holm p = {one.holm_p:.4g}"
    if one.winner is not None:
        return f"{one.winner} is better on {one.task}: {sure}."
    if one.withheld is not None:
        return f"No verdict on {one.task}, {one.withheld}: {sure}."
    return f"No winner on {one.task}: {sure}; {it_would_take(one)}."


def it_would_take(one: Comparison) -> str:
    """How many seeds and items would show a difference of the size that was seen."""
    if len(one.seeds) < 2:
        return f"one seed does not show the spread; at least {LEAST_SEEDS} are needed"
    if one.delta == 0:
        return "there is no difference"
    have = f"it has {len(one.seeds)} and {one.items}"
    size = one.needed
    if size is None:
        return f"no practicable number of seeds and items would show a difference of this size ({have})"
    return (
        f"a difference of this size is found in 80 % with about {size.seeds} seeds and {size.items} items "
        f"({have}; as uncertain as the difference: {seeds_range(size)})"
    )


def seeds_range(size: Needed) -> str:
    """The spread of the number of seeds, in words."""
    least, most = (
        f"over {MOST:,}" if one is None else f"{one:,}" for one in (size.least_seeds, size.most_seeds)
    )
    return f"{least} to {most} seeds"
