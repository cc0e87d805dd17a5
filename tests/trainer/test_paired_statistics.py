"""The statistics of claims: against scipy, hand examples, and their promises over simulated experiments."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from trainer.statistics import permutation
from trainer.statistics.bootstrap import two_level_interval
from trainer.statistics.comparison import compare, judged, verdict
from trainer.statistics.crossed import mean_squares
from trainer.statistics.multiplicity import corrected, holm
from trainer.statistics.over_seeds import mean_interval, mean_p
from trainer.statistics.paired import compare_models, compare_several
from trainer.statistics.permutation import sign_flip_p, sign_flip_ps
from trainer.statistics.synergy import CONTROLS, synergy

EXPERIMENTS = 1000
"""Simulated ones. At a true rate of 5 % the observed one has a standard error of 0.7 %."""


def simulated(
    random: np.random.Generator,
    seeds: int,
    items: int,
    *,
    of_seeds: float,
    of_items: float,
    of_rest: float = 1.0,
    effect: float = 0.0,
) -> np.ndarray:
    """Differences (EXPERIMENTS, seeds, items) of crossed random effects with these deviations."""
    shape = (EXPERIMENTS, seeds, items)
    return (
        effect
        + of_seeds * random.normal(size=(EXPERIMENTS, seeds, 1))
        + of_items * random.normal(size=(EXPERIMENTS, 1, items))
        + of_rest * random.normal(size=shape)
    )


def test_holm_by_hand():
    """0.01 x 4; 0.02 x 3 = 0.06; 0.03 x 2 = 0.06; 0.04 x 1 stays at 0.06: none falls below one before."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.005, 0.9, 0.6]) == pytest.approx([0.015, 1.0, 1.0])
    assert holm([]) == []


def test_holm_is_the_closed_test_of_every_intersection():
    """A hypothesis is rejected where every set of hypotheses that holds it is, each by Bonferroni."""
    random = np.random.default_rng(2)
    for _ in range(40):
        ps = (random.uniform(size=5) ** 3).tolist()
        sets = [one for size in range(1, 6) for one in combinations(range(5), size)]
        rejected = {one for one in sets if len(one) * min(ps[i] for i in one) <= 0.05}
        by_hand = [all(one in rejected for one in sets if i in one) for i in range(5)]
        assert [p <= 0.05 for p in holm(ps)] == by_hand


def test_corrected_intervals_read_as_corrected_p_does():
    """Of three, the first is rejected at 0.05 / 3; the others' intervals have the chance of 1 - 0.05 / 2."""
    found = corrected([0.03, 0.001, 0.2], 0.05)
    assert [one.p for one in found] == pytest.approx([0.06, 0.003, 0.2])
    assert [one.alpha for one in found] == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 2])
    for p, one in zip([0.03, 0.001, 0.2], found, strict=True):
        assert (one.p <= 0.05) == (p <= one.alpha)
    # Two tests of one hypothesis count once.
    twins = corrected([0.02, 0.02, 0.2], 0.05, ["a", "a", "b"])
    assert [one.p for one in twins] == pytest.approx([0.04, 0.04, 0.2])


def test_the_exact_sign_flip_is_scipys():
    random = np.random.default_rng(1)
    for _ in range(5):
        differences = random.normal(0.4, 1.0, size=9)
        theirs = stats.permutation_test(
            (differences, np.zeros(9)),
            lambda a, b, axis: (a - b).mean(axis=axis),
            permutation_type="samples",
            n_resamples=2**9,
        )
        assert sign_flip_p(differences) == pytest.approx(theirs.pvalue)


def test_a_sign_flip_by_hand():
    """Of the 8 patterns of (1, 2, 3) two reach |6|."""
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip_p(np.array([0.0, 0.0])) == 1.0
    # One draw more than the differences need: the smallest p there is.
    assert sign_flip_p(np.full(30, 0.5), draws=999) == 1 / 1000


@pytest.mark.parametrize("draw", ["normal", "binary", "skewed items"])
def test_the_permutation_test_errs_in_five_percent_of_null_experiments(draw: str):
    random = np.random.default_rng(7)
    if draw == "normal":
        null = random.normal(size=(EXPERIMENTS, 40))
    elif draw == "binary":  # accuracies of 4 samples each, 3 seeds, both arms alike
        chance = random.beta(0.5, 0.5, size=(EXPERIMENTS, 1, 40))
        a, b = (random.binomial(4, chance, size=(EXPERIMENTS, 3, 40)) / 4 for _ in range(2))
        null = (a - b).mean(axis=1)
    else:  # symmetric, with a few items that dominate
        null = random.standard_t(2, size=(EXPERIMENTS, 40))
    rate = float((sign_flip_ps(null, seed=3, draws=1999) <= 0.05).mean())
    assert 0.033 <= rate <= 0.067  # +- 2.5 standard errors


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("of_seeds", "of_items"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.3)], ids=["items", "both", "seeds"]
)
def test_the_two_level_interval_covers_the_truth(seeds: int, of_seeds: float, of_items: float):
    random = np.random.default_rng(seeds)
    effect = 0.7
    experiments = simulated(random, seeds, 40, of_seeds=of_seeds, of_items=of_items, effect=effect)
    intervals = [two_level_interval(one, seed=n, draws=400) for n, one in enumerate(experiments)]
    assert np.mean([one.low <= effect <= one.high for one in intervals]) >= 0.93
    # And it is not an excuse: a few times wider at most than with the true deviations known.
    width = np.mean([one.high - one.low for one in intervals])
    known = math.sqrt(of_seeds**2 / seeds + of_items**2 / 40 + 1 / (40 * seeds))
    assert width < 2 * stats.t.ppf(0.975, seeds - 1) * known * 1.5


def test_a_plain_percentile_interval_would_not():
    """Why levels are stretched: without it five seeds cover 85 % where the spread of seeds dominates."""
    random = np.random.default_rng(5)
    experiments = simulated(random, 5, 40, of_seeds=1.0, of_items=0.3)
    covered = []
    for one in experiments:
        means = one.mean(axis=1)[random.integers(0, 5, size=(400, 5))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        covered.append(low <= 0 <= high)
    assert np.mean(covered) < 0.9


def test_winners_are_named_by_mistake_in_five_percent_at_most():
    """Seeds differ, algorithms do not: the test over items alone would name a winner far too often."""
    random = np.random.default_rng(11)
    null = simulated(random, 5, 60, of_seeds=0.3, of_items=0.2)
    squares = mean_squares(null)
    named = (np.abs(squares.mean) > squares.half_width(0.05)).mean()
    items_alone = (sign_flip_ps(null.mean(axis=1), draws=999) <= 0.05).mean()
    assert named <= 0.05 + 2.5 * 0.007
    assert items_alone > 0.3


def test_one_or_equal_seeds_have_no_spread_to_speak_of():
    assert mean_p(np.array([0.3])) == 1.0 == mean_p(np.array([0.0, 0.0]))
    theirs: Any = stats.ttest_1samp(np.arange(4.0), 0.0)
    assert mean_p(np.arange(4.0)) == pytest.approx(theirs.pvalue)
    assert mean_interval(np.array([2.0])).ends() == {"low": None, "high": None}
    low, high = stats.t.interval(0.95, 3, 1.5, stats.sem([0, 1, 2, 3]))
    interval = mean_interval(np.arange(4.0))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def arms(delta: float, seeds: int = 4, items: int = 50, spread: float = 0.01):
    """Scores of two arms, the first better by ``delta``."""
    random = np.random.default_rng(19)
    baseline = {seed: random.uniform(size=items) for seed in range(seeds)}
    better = {
        seed: scores + delta + spread * random.normal() + 0.02 * random.normal(size=items)
        for seed, scores in baseline.items()
    }
    return better, baseline


def test_a_winner_is_named_where_everything_allows():
    better, baseline = arms(0.1)
    one = compare("sums", "new", "old", better, baseline)
    assert one is not None and one.winner == "new" and one.delta == pytest.approx(0.1, abs=0.02)
    assert verdict(one).startswith("new is better on sums: new − old = +0.")
    other = compare("sums", "old", "new", baseline, better)
    assert other is not None and other.winner == "new" and other.delta == -one.delta


def test_no_winner_with_two_seeds_nor_after_correction_nor_when_seeds_disagree():
    better, baseline = arms(0.1, seeds=2)
    two = compare("sums", "new", "old", better, baseline)
    assert two is not None and two.these_models_p < 0.01 and two.winner is None
    assert "No winner on sums" in verdict(two) and "(it has 2 and 50;" in verdict(two)

    better, baseline = arms(0.1, spread=0.3)
    apart = compare("sums", "new", "old", better, baseline)
    assert apart is not None and apart.these_models_p < 0.01 and apart.winner is None
    assert apart.needed is not None and apart.needed.seeds > 4

    better, baseline = arms(0.1, spread=0.03)
    one = compare("sums", "new", "old", better, baseline)
    level = compare("t", "a", "b", *arms(0.0))
    assert one is not None and level is not None
    family = judged([one] * 2 + [level] * 600)
    assert one.winner == "new" and family[0].winner is None and family[0].holm_p == pytest.approx(602 * one.p)
    assert one.interval.low > 0 > family[0].adjusted.low
    assert family[0].adjusted_alpha == pytest.approx(0.05 / 602)
    # The more is asked, the larger a difference must be to be found.
    assert family[0].detectable is not None and one.detectable is not None
    assert family[0].detectable > 2 * one.detectable


def test_no_verdict_where_it_is_withheld():
    better, baseline = arms(0.1)
    one = compare("sums", "new", "old", better, baseline, withheld="3 of 9 planned runs have not ended")
    assert one is not None and one.p < 0.01 and one.winner is None and not one.separated
    assert verdict(one).startswith("No verdict on sums, 3 of 9 planned runs have not ended: new − old = +0.")


def test_pairs_are_seeds_and_items_that_both_have():
    better, baseline = arms(0.1)
    del better[0]
    baseline[1][:5] = math.nan
    one = compare("sums", "new", "old", better, baseline)
    assert one is not None
    assert (one.seeds, one.items, one.items_left_out) == ((1, 2, 3), 45, 5)
    assert compare("sums", "new", "old", {9: np.ones(3)}, {1: np.ones(3)}) is None


def test_the_synergy_rule():
    won = compare("t", "policy_split", "x", *arms(0.1))
    lost = compare("t", "policy_split", "x", *reversed(arms(0.1)))
    assert synergy(dict.fromkeys(CONTROLS, won)).claimed is True
    assert synergy({"grpo_2x": won}).claimed is None
    # One that speaks against it is enough, whatever else was not run.
    assert synergy({"grpo_2x": lost}).claimed is False
    two_seeds = compare("t", "policy_split", "x", *reversed(arms(0.1, seeds=2)))
    assert synergy({"grpo_2x": two_seeds}).claimed is None
    waits = compare("t", "policy_split", "x", *reversed(arms(0.1)), withheld="runs wait")
    assert synergy({"grpo_2x": waits}).claimed is None
    level = compare("t", "policy_split", "x", *arms(0.0))
    for name, simpler in CONTROLS.items():
        for other, seen, means in (
            (lost, "worse than x (", "does more"),
            (level, "not shown to be better than x (", "may do as much"),
        ):
            found = synergy(dict.fromkeys(CONTROLS, won) | {name: other})
            assert found.claimed is False
            (reason,) = found.reasons
            assert reason.startswith(seen) and reason.endswith(f"{simpler} {means}")


def test_signs_are_the_same_however_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    differences_I = np.random.default_rng(3).normal(0.1, 1.0, size=37)
    whole = sign_flip_p(differences_I, seed=5)
    monkeypatch.setattr(permutation, "_HELD", 37 * 7)
    assert sign_flip_p(differences_I, seed=5) == whole


def test_several_comparisons_of_models_are_corrected_together() -> None:
    random = np.random.default_rng(0)
    baseline = random.integers(0, 2, size=400).astype(float)
    better = np.where(random.random(400) < 0.15, 1.0, baseline)
    alike = np.where(random.random(400) < 0.02, 1 - baseline, baseline)
    nothing = np.full(400, np.nan)
    pairs = [(better, baseline), (alike, baseline), (nothing, baseline)]
    found = compare_several(pairs, bounds=(-1, 1))
    first, second, third = found
    assert third is None and first is not None and second is not None
    alone = [compare_models(*pair, bounds=(-1, 1)) for pair in pairs[:2]]
    assert [first.comparison, second.comparison] == alone
    assert [first.holm_p, second.holm_p] == holm([one.p for one in alone if one is not None])
    assert first.separated and not second.separated
    # Student's interval by hand: the first of two tests has half of the chance of error, the one left all.
    for one, alpha in ((first, 0.025), (second, 0.05)):
        values = (better if one is first else alike) - baseline
        half = stats.t.ppf(1 - alpha / 2, 399) * values.std(ddof=1) / 20
        assert one.adjusted_alpha == alpha
        ends = values.mean() - half, values.mean() + half
        assert (one.adjusted.low, one.adjusted.high) == pytest.approx(ends)
