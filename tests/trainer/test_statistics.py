"""Statistics of sampled answers, against enumeration of all draws and figures worked out by hand."""

import math
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.statistics.diversity import bleu, distinct_n, matched, repetition, self_bleu_diversity
from trainer.statistics.majority import majority_at_k, vote
from trainer.statistics.pass_at_k import (
    mixture_pass_at_k,
    none_correct,
    pass_at_k,
    powers_of_two,
    solved_only_by_first,
    solved_only_by_second_draw,
)


def draws(n: int, c: int, k: int) -> list[tuple[bool, ...]]:
    """Every way to draw k of n samples of which the first c are correct."""
    return list(combinations([i < c for i in range(n)], k))


@pytest.mark.parametrize(("n", "c"), [(n, c) for n in range(1, 8) for c in range(n + 1)])
def test_pass_at_k_is_the_share_of_draws_with_a_correct_sample(n: int, c: int):
    for k in range(1, n + 1):
        every = draws(n, c, k)
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, every)) / len(every), abs=1e-12)


@given(p=st.floats(0, 1), n=st.integers(1, 7), data=st.data())
def test_pass_at_k_has_no_bias(p: float, n: int, data):
    """Averaged over all outcomes of n independent samples it is 1 - (1 - p)^k."""
    k = data.draw(st.integers(1, n))
    mean = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


@pytest.mark.parametrize(("normal", "high"), [((4, 1), (4, 2)), ((3, 0), (5, 1)), ((2, 2), (4, 0))])
def test_the_mixture_is_enumerated(normal: tuple[int, int], high: tuple[int, int]):
    for half in (1, 2):
        every = list(product(draws(*normal, half), draws(*high, half)))
        share = sum(any(a) or any(b) for a, b in every) / len(every)
        assert mixture_pass_at_k(normal, high, 2 * half) == pytest.approx(share, abs=1e-12)
        only = sum(any(b) and not any(a) for a, b in every) / len(every)
        assert solved_only_by_first(high, normal, half) == pytest.approx(only, abs=1e-12)


def test_a_mixture_of_equal_halves_is_the_same_budget_of_one():
    """With p in both modes, the mixture of k has the expectation of pass@k."""
    n, p, k = 4, 0.3, 4
    chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    mean = sum(
        chance[a] * chance[b] * mixture_pass_at_k((n, a), (n, b), k)
        for a, b in product(range(n + 1), repeat=2)
    )
    assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("n", "c", "m"), [(4, 1, 2), (6, 2, 3), (6, 1, 2), (2, 1, 1), (4, 4, 2)])
def test_the_second_draw_is_enumerated(n: int, c: int, m: int):
    """All pairs of disjoint draws: the second solves, the first does not."""
    found = total = 0
    for first in combinations(range(n), m):
        for second in combinations(sorted(set(range(n)) - set(first)), m):
            total += 1
            found += any(i < c for i in second) and not any(i < c for i in first)
    assert solved_only_by_second_draw(n, c, m) == pytest.approx(found / total, abs=1e-12)


@pytest.mark.parametrize("arguments", [(2, 3, 1), (2, 1, 3), (2, -1, 1)])
def test_impossible_counts_are_refused(arguments: tuple[int, int, int]):
    with pytest.raises(ValueError, match="draws from"):
        none_correct(*arguments)
    with pytest.raises(ValueError, match="must be even"):
        mixture_pass_at_k((4, 1), (4, 1), 3)


def test_powers_of_two():
    assert [powers_of_two(n) for n in (0, 1, 3, 8)] == [[], [1], [1, 2], [1, 2, 4, 8]]


def test_votes():
    assert vote(["7", "7", "8"], [True, True, False]) == 1.0
    assert vote(["8", "7", "8"], [False, True, False]) == 0.0
    assert vote(["7", "8"], [True, False]) == 0.5
    assert vote(["7", "8", "9"], [True, False, False]) == pytest.approx(1 / 3)
    assert vote([None, None, "7"], [False, False, True]) == 1.0
    assert vote([None], [False]) == 0.0
    assert vote(["7", "7"], [True, False]) == 0.5


def test_majorities_are_means_over_disjoint_blocks():
    answers, correct = ["7", "8", "7", "7", "8"], [True, False, True, True, False]
    assert majority_at_k(answers, correct, 1) == pytest.approx(3 / 5)
    assert majority_at_k(answers, correct, 2) == pytest.approx((0.5 + 1.0) / 2)
    assert majority_at_k(answers, correct, 4) == 1.0
    with pytest.raises(ValueError, match="a vote of 6 among 5"):
        majority_at_k(answers, correct, 6)


def test_distinct_n_counts_over_all_responses_together():
    responses = [[1, 2, 1], [1, 2]]
    assert distinct_n(responses, 1) == 2 / 5
    assert distinct_n(responses, 2) == 2 / 3  # 12 21 12
    assert distinct_n([[1]], 2) is None
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4], 4) == pytest.approx(1 - 4 / 5)
    assert repetition([1, 2, 3]) is None


def test_bleu_by_hand():
    """Papineni's example of clipping, and a sentence with every order counted by hand."""
    the = ["the"] * 7
    references = [["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]
    assert bleu(the, references, max_order=1) == pytest.approx(2 / 7)
    hypothesis, reference = list("abcde"), list("abcdfg")
    # 4/5 words, 3/4 pairs, 2/3 triples, 1/2 of four; brevity exp(1 - 6/5).
    expected = math.exp(-1 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu(hypothesis, [reference]) == pytest.approx(expected)
    # The closest reference length counts, the shorter of two as close.
    assert bleu(list("abcde"), [list("abcdex"), list("abcd")]) == pytest.approx(1.0)
    # Nothing shared: 0.1 in place of each count of zero.
    assert bleu([1, 2], [[3, 4]]) == pytest.approx((0.1 / 2 * 0.1 / 1) ** 0.5)


def test_self_bleu_from_all_alike_to_nothing_shared():
    assert self_bleu_diversity([[1, 2, 3, 4, 5]] * 3) == pytest.approx(0.0)
    assert self_bleu_diversity([[], []]) == pytest.approx(0.0)
    disjoint = self_bleu_diversity([list(range(10 * i, 10 * i + 10)) for i in range(3)])
    assert disjoint is not None and disjoint > 0.98
    assert self_bleu_diversity([[1, 2]]) is None
    one, other = list("abcde"), list("abcdfg")
    expected = 1 - (bleu(one, [other]) + bleu(other, [one])) / 2
    assert self_bleu_diversity([one, other]) == pytest.approx(expected)


texts = st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=6)


@given(one=texts, other=texts)
def test_matched_sets_have_one_size_and_length(one, other):
    a, b = matched(one, other)
    assert len(a) == len(b)
    assert len({len(x) for x in (*a, *b)}) <= 1
    assert all(any(list(x) == full[: len(x)] for full in one) for x in a)
    if one and other:
        assert 2 * len(a) >= min(len(one), len(other))


@given(responses=texts.filter(lambda some: len(some) > 1))
def test_self_bleu_is_the_mean_of_each_against_the_others(responses):
    scores = [bleu(one, [*responses[:i], *responses[i + 1 :]]) for i, one in enumerate(responses)]
    assert self_bleu_diversity(responses) == 1 - sum(scores) / len(scores)


@given(responses=texts)
def test_diversity_is_a_share(responses):
    for value in (distinct_n(responses, 2), self_bleu_diversity(responses)):
        assert value is None or -1e-9 <= value <= 1
