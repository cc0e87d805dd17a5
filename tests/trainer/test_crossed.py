"""The test of seeds and items at large: against statsmodels, scipy, hand examples, and its promises."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trainer.statistics.crossed import (
    LEAST_P,
    Estimate,
    edge_interval,
    mean_squares,
    pooled_p,
    share_interval,
)
from trainer.statistics.paired import compare_models
from trainer.statistics.power import Design, design_of, needed

SHARES = (-1.0, 1.0)


def table(seed: int, seeds: int, items: int, of_seeds: float = 1.0, of_items: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (
        0.4
        + of_seeds * random.normal(size=(seeds, 1))
        + of_items * random.normal(size=(1, items))
        + random.normal(size=(seeds, items))
    )


def frame(values_SI: np.ndarray) -> pd.DataFrame:
    seeds, items = np.indices(values_SI.shape)
    return pd.DataFrame({"y": values_SI.ravel(), "seed": seeds.ravel(), "item": items.ravel(), "whole": 1})


@pytest.mark.parametrize("shape", [(3, 8), (5, 20)])
def test_mean_squares_are_those_of_statsmodels_two_way_table(shape: tuple[int, int]):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    values_SI = table(1, *shape)
    theirs = anova_lm(ols("y ~ C(seed) + C(item)", frame(values_SI)).fit())
    ours = mean_squares(values_SI)
    found = [float(one) for one in (ours.seed, ours.item, ours.rest)]
    assert found == pytest.approx(theirs["mean_sq"].tolist(), rel=1e-10)
    many = mean_squares(np.stack([values_SI, 2 * values_SI]))
    assert many.seed == pytest.approx([found[0], 4 * found[0]]) and many.rest[0] == pytest.approx(found[2])


def test_the_variance_is_that_of_statsmodels_mixed_model():
    """Crossed random effects by REML: in a balanced table without negative components they are the same."""
    from statsmodels.formula.api import mixedlm

    values_SI = table(2, 6, 12)
    model = mixedlm(
        "y ~ 1",
        frame(values_SI),
        groups="whole",
        re_formula="0",
        vc_formula={"seed": "0 + C(seed)", "item": "0 + C(item)"},
    )
    theirs = model.fit(reml=True)
    ours = mean_squares(values_SI)
    assert float(ours.of_seeds + ours.of_items) == pytest.approx(
        float(theirs.bse["Intercept"]) ** 2, rel=1e-3
    )
    assert float(ours.mean) == pytest.approx(float(theirs.params["Intercept"]))


def test_p_by_hand():
    """MS_seed 3 · var(0, 2) = 6, MS_item 2 · var(0, 1, 2) = 2, no rest: 3.5 of the variance are 1 and 1/3."""
    values_SI = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    ours = mean_squares(values_SI)
    assert [float(one) for one in (ours.mean, ours.seed, ours.item, ours.rest)] == pytest.approx([2, 6, 2, 0])
    p = Estimate(values_SI).p()
    squared = [float(stats.t.isf(p / 2, freedom)) ** 2 for freedom in (1, 2)]
    assert squared[0] * 6 / 6 + squared[1] * 2 / 6 == pytest.approx(2.0**2, rel=1e-9)


def test_without_a_part_of_the_items_it_is_students_test_over_seeds():
    values_SI = np.stack([np.roll([0.1, 0.2, 0.6, -0.3], n) + n / 8 for n in range(4)])
    ours = mean_squares(values_SI)
    assert float(ours.of_items) == 0.0
    theirs = stats.ttest_1samp(values_SI.mean(axis=1), 0.0)
    assert Estimate(values_SI).p() == pytest.approx(theirs.pvalue, rel=1e-6)  # type: ignore[attr-defined]
    assert float(pooled_p(ours)) >= Estimate(values_SI).p()


@pytest.mark.parametrize("alpha", [0.2, 0.05, 1e-4])
def test_the_interval_excludes_zero_where_p_is_below_alpha(alpha: float):
    for seed in range(40):
        one = Estimate(table(seed, 3 + seed % 3, 10) + 0.5, (-9.0, 9.0))
        assert (not one.interval(alpha).low <= 0.0 <= one.interval(alpha).high) == (one.p() < alpha)
        ends = one.interval(one.p())
        assert min(abs(ends.low), abs(ends.high)) == pytest.approx(0.0, abs=1e-9)


def test_seeds_that_agree_by_luck_do_not_make_a_small_difference_certain():
    """Each seed's only mistake is another item's: the seeds' means are the same number."""
    values_SI = np.zeros((3, 40))
    values_SI[[0, 1, 2], [3, 8, 20]] = 0.25
    assert float(mean_squares(values_SI).seed) == pytest.approx(0.0, abs=1e-15)
    # Without the bound at the 1 % point the half-width would be zero, and so would p.
    assert Estimate(values_SI, SHARES).p() > 0.001


def test_one_seed_or_one_item_says_nothing():
    for values_SI in (np.ones((1, 40)), np.ones((4, 1)), np.random.default_rng(0).normal(size=(1, 9))):
        one = Estimate(values_SI, SHARES)
        found = one.interval(0.05)
        assert one.p() == 1.0 and (found.low, found.high) == SHARES


def test_the_edge_by_enumeration():
    """The same difference everywhere. All won: of the 2^I ways to sign the items, two are all alike."""
    for items in (5, 8):
        won = Estimate(np.ones((3, items)), SHARES)
        assert won.p() == pytest.approx(2 / 2**items)
    none = Estimate(np.zeros((3, 32)), SHARES)
    assert none.p() == 1.0
    # Clopper and Pearson's bound for 0 of 32.
    bound = float(stats.beta.ppf(0.975, 1, 32))
    found = none.interval(0.05)
    assert (found.low, found.high) == pytest.approx((-bound, bound))
    right = share_interval(np.ones((4, 32)), 0.05)
    assert (right.low, right.high) == pytest.approx((1 - bound, 1.0))
    for value in (0.3, -0.1):
        one = Estimate(np.full((3, 10), value), SHARES)
        ends = one.interval(one.p()) if one.p() < 1 else None
        assert ends is None or min(abs(ends.low), abs(ends.high)) == pytest.approx(0.0, abs=1e-12)
    unbounded = Estimate(np.full((3, 10), 0.3))
    assert unbounded.p() == 1.0 and unbounded.interval(0.05).ends() == {"low": None, "high": None}
    assert Estimate(np.ones((9, 60)), SHARES).p() == LEAST_P


@pytest.mark.parametrize("chance", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_shares_stay_in_their_range_and_hold_the_truth(chance: float, seeds: int):
    random = np.random.default_rng([int(100 * chance), seeds])
    held, number, items = 0, 400, 48
    for _ in range(number):
        of_items = random.beta(20 * chance, 20 * (1 - chance), size=items)
        values_SI = random.binomial(8, np.broadcast_to(of_items, (seeds, items))) / 8
        found = share_interval(values_SI, 0.05)
        assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
        held += found.low <= chance <= found.high
    assert held / number >= 0.93


@pytest.mark.parametrize(("of_seeds", "of_items"), [(0.0, 0.0), (0.3, 0.3), (1.0, 0.0), (0.3, 2.0)])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_it_errs_in_five_percent_at_most_and_covers_what_it_says(
    seeds: int, of_seeds: float, of_items: float
):
    random = np.random.default_rng([seeds, int(10 * of_seeds), int(10 * of_items)])
    number, items = 4000, 40
    noise_ESI = (
        of_seeds * random.normal(size=(number, seeds, 1))
        + of_items * random.normal(size=(number, 1, items))
        + random.normal(size=(number, seeds, items))
    )
    squares = mean_squares(noise_ESI)
    outside = float((np.abs(squares.mean) > squares.half_width(0.05)).mean())
    # Three standard errors of 5 %; and not so wide that it would hold everything.
    assert 0.015 <= outside <= 0.05 + 3 * 0.0035


def test_power_is_what_simulation_finds():
    random = np.random.default_rng(3)
    design = Design(5, 40, 0.09, 0.25, 1.0)
    noise_ESI = (
        0.3 * random.normal(size=(4000, 5, 1))
        + 0.5 * random.normal(size=(4000, 1, 40))
        + random.normal(size=(4000, 5, 40))
    )
    squares = mean_squares(noise_ESI)
    for effect in (0.2, 0.5):
        found = float((np.abs(squares.mean + effect) > squares.half_width(0.05)).mean())
        assert design.power(effect) == pytest.approx(found, abs=0.03)
    assert design.power(design.detectable()) == pytest.approx(0.8, abs=1e-6)


def test_seeds_and_items_needed_are_met_together():
    """The textbook's 15 pairs for d = 0.8 at 80 %; and with items that bind, more of both."""
    alone = needed(Design(5, 10_000, 1.0, 0.0, 0.0), 0.8, 0.2)
    assert alone is not None and (alone.seeds, alone.items) == (15, 10_000)
    assert alone.least_seeds is not None and alone.most_seeds is not None
    assert alone.least_seeds < 15 < alone.most_seeds
    design = Design(4, 20, 0.04, 1.0, 0.5)
    both = needed(design, 0.3, 0.4)
    assert both is not None and both.items > 20 and both.most_seeds is None
    reached = Design(both.seeds, both.items, 0.04, 1.0, 0.5)
    assert reached.power(0.3) >= 0.8 > Design(both.seeds - 1, both.items, 0.04, 1.0, 0.5).power(0.3)
    assert needed(design, 0.0, 0.1) is None and needed(design, 1e-6, 0.1) is None


def test_a_design_is_estimated_without_bias_in_the_median():
    random = np.random.default_rng(4)
    noise_ESI = 0.5 * random.normal(size=(2000, 3, 1)) + random.normal(size=(2000, 3, 50))
    squares = mean_squares(noise_ESI)
    designs = [design_of(squares[n]) for n in range(2000)]
    assert float(np.median([one.seed_variance for one in designs])) == pytest.approx(0.25, rel=0.12)


def test_two_models_on_the_same_items():
    first, second = np.array([1.0, 0.5, np.nan, 1.0, 0.75]), np.array([0.5, 0.5, 1.0, 0.25, 0.5])
    found = compare_models(first, second, bounds=SHARES)
    assert found is not None and (found.items, found.items_left_out) == (4, 1)
    differences = np.array([0.5, 0.0, 0.75, 0.25])
    assert found.delta == pytest.approx(0.375) and found.p == 4 / 16
    low, high = stats.t.interval(0.95, 3, 0.375, stats.sem(differences))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    same = compare_models(np.ones(20), np.ones(20), bounds=SHARES)
    assert same is not None and same.p == 1.0 and same.interval == edge_interval(0.0, 20, 0.05, SHARES)
    assert compare_models(np.array([np.nan]), np.ones(1)) is None
