"""One arm against another on one task: the difference, how sure it is, and whether it may be called a win.

The unit is an item's score, a mean over its samples; runs are paired by seed and by item. A difference
*separates* two arms when all of these hold:

1. at least ``LEAST_SEEDS`` seeds;
2. the sign-flip test over items, corrected by Holm over the family it belongs to, has p <= 0.05;
3. the two-level bootstrap's interval, which holds the spread of the seeds, excludes zero.

The second alone is not enough: it takes the trained models as given, and two seeds of one algorithm differ
significantly on enough items. With S seeds no sign-flip over seeds has a p below 2 / 2^S (0.25 for 3, 0.0625
for 5), so none is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.statistics.bootstrap import DRAWS, two_level_interval
from trainer.statistics.multiplicity import holm
from trainer.statistics.permutation import paired_t_p, sign_flip_p
from trainer.statistics.power import ALPHA, minimum_detectable_effect, replicates_needed
from trainer.statistics.wording import with_interval

LEAST_SEEDS = 3
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
    low: float
    high: float
    #: The difference of each seed, a mean over items.
    seed_deltas: tuple[float, ...]
    #: Their standard deviation; None for one seed.
    seed_std: float | None
    p: float
    #: ``p`` corrected by Holm over the family; set by :func:`corrected`.
    holm_p: float
    #: Paired t test over seeds.
    seed_t_p: float | None
    minimum_detectable_effect: float | None
    seeds_needed: int | None
    items_needed: int | None

    @property
    def has_seeds_enough(self) -> bool:
        """Whether anything may be said of the difference."""
        return len(self.seeds) >= LEAST_SEEDS

    @property
    def separated(self) -> bool:
        """Whether the difference may be called one."""
        return self.has_seeds_enough and self.holm_p <= ALPHA and not self.low <= 0.0 <= self.high

    @property
    def winner(self) -> str | None:
        """The better arm, where the two are separated."""
        if not self.separated:
            return None
        return self.method if self.delta > 0 else self.baseline


def compare(
    task: str,
    method: str,
    baseline: str,
    method_scores: SeedScores,
    baseline_scores: SeedScores,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison | None:
    """Compare two arms on the seeds that both have; None where they share no seed or no item.

    Items without a score in any of the paired runs are left out of all of them. ``seed`` is that of the
    random draws.
    """
    seeds = tuple(sorted(method_scores.keys() & baseline_scores.keys()))
    if not seeds:
        return None
    differences_SI = np.stack([method_scores[one] - baseline_scores[one] for one in seeds])
    scored_I = ~np.isnan(differences_SI).any(axis=0)
    differences_SI = differences_SI[:, scored_I]
    if not differences_SI.size:
        return None
    by_seed_S, by_item_I = differences_SI.mean(axis=1), differences_SI.mean(axis=0)
    interval = two_level_interval(differences_SI, seed=seed, draws=draws)
    p = sign_flip_p(by_item_I, seed=seed, draws=draws)
    seed_std = float(by_seed_S.std(ddof=1)) if len(seeds) > 1 else None
    item_std = float(by_item_I.std(ddof=1)) if len(by_item_I) > 1 else None
    return Comparison(
        task=task,
        method=method,
        baseline=baseline,
        seeds=seeds,
        items=len(by_item_I),
        items_left_out=int((~scored_I).sum()),
        delta=interval.mean,
        low=interval.low,
        high=interval.high,
        seed_deltas=tuple(float(one) for one in by_seed_S),
        seed_std=seed_std,
        p=p,
        holm_p=p,
        seed_t_p=paired_t_p(by_seed_S),
        minimum_detectable_effect=minimum_detectable_effect(differences_SI),
        seeds_needed=None if seed_std is None else replicates_needed(interval.mean, seed_std),
        items_needed=None if item_std is None else replicates_needed(interval.mean, item_std),
    )


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction over all of them."""
    ps = holm([one.p for one in family])
    return [replace(one, holm_p=p) for one, p in zip(family, ps, strict=True)]


def verdict(one: Comparison) -> str:
    """One sentence: who wins, or why nobody is named and what it would take."""
    sure = f"{one.method} − {one.baseline} = {with_interval(one.delta, one.low, one.high)}"
    if one.winner is not None:
        return f"{one.winner} is better on {one.task}: {sure}, Holm p = {one.holm_p:.4g}."
    return f"No winner on {one.task}: {sure}, Holm p = {one.holm_p:.4g}; {_needed(one)}."


def _needed(one: Comparison) -> str:
    if len(one.seeds) < 2:
        return f"one seed says nothing of the spread; at least {LEAST_SEEDS} are needed"
    if one.delta == 0:
        return "there is no difference to be seen"
    seeds, items = one.seeds_needed, one.items_needed
    words = [
        "no practicable number of seeds" if seeds is None else f"about {max(seeds, LEAST_SEEDS)} seeds",
        "no practicable number of items" if items is None else f"about {items} items",
    ]
    have = f"it has {len(one.seeds)} and {one.items}"
    return f"to see a difference of this size, {words[0]} and {words[1]} would be needed ({have})"
