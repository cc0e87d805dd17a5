"""Exploration at the level of answers: the shaped reward, and where its expected gradient rests."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.fixtures.groups import H, N, bare_group
from tests.fixtures.runs import tiny_spec, write_rows
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import AdvantageInputs
from trainer.algorithms.policy_split import PolicySplitAlgorithm
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.objective.advantage import centered_advantage, group_advantage
from trainer.objective.metrics import MetricSums
from trainer.objective.uniqueness import unique_rewards
from trainer.spec.algorithm import AnswerExploration, Cispo, Dapo, DrGrpo, Grpo, Gspo, PolicySplit
from trainer.statistics.distinct import distinct_right_at_k, mixture_distinct_right_at_k, right_answers
from trainer.steps.step_metrics import answer_metrics

NAN = math.nan

groups = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, NAN]), st.sampled_from(["a", "b", "c", None])),
    min_size=1,
    max_size=9,
)


def shaped(rewards, answers, scale: float) -> np.ndarray:
    """r' by the letter of the definition, with loops."""
    out = []
    for reward, answer in zip(rewards, answers, strict=True):
        if math.isnan(reward):
            out.append(NAN)
            continue
        same = sum(
            other == answer and not math.isnan(value) for value, other in zip(rewards, answers, strict=True)
        )
        lower = max((value for value in rewards if value < reward), default=0.0)
        out.append(lower + (reward - lower) * same ** (-scale))
    return np.array(out)


def tensor(values) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


@given(groups, st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_it_is_the_definition(group, scale: float):
    rewards, answers = zip(*group, strict=True)
    found = unique_rewards(tensor(rewards), answers, scale).numpy()
    assert np.allclose(found, shaped(rewards, answers, scale), rtol=0, atol=1e-15, equal_nan=True)


@given(groups)
def test_at_scale_zero_nothing_changes(group):
    rewards, answers = zip(*group, strict=True)
    given_G = tensor(rewards)
    assert unique_rewards(given_G, answers, 0.0) is given_G


@given(groups, st.sampled_from([0.5, 1.0, 3.0]))
def test_no_better_answer_falls_to_or_below_a_worse_one(group, scale: float):
    rewards, answers = zip(*group, strict=True)
    found = unique_rewards(tensor(rewards), answers, scale)
    for (better, at_better), (worse, at_worse) in itertools.permutations(
        zip(rewards, found.tolist(), strict=True), 2
    ):
        if better > worse:
            assert at_better > at_worse


@given(groups, st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(group, random):
    rewards, answers = zip(*group, strict=True)
    found = unique_rewards(tensor(rewards), answers, 1.0)
    order = list(range(len(group)))
    random.shuffle(order)
    renamed = {"a": 7, "b": ("x",), "c": "a", None: "none"}
    again = unique_rewards(tensor(rewards[i] for i in order), [renamed[answers[i]] for i in order], 1.0)
    assert torch.equal(again.nan_to_num(-1.0), found[order].nan_to_num(-1.0))


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_a_right_answer_keeps_a_positive_advantage_against_a_wrong_one(scale: float):
    """For rewards 0 and 1 and any count."""
    for right in range(1, 8):
        rewards = [1.0] * right + [0.0] * (8 - right)
        answers = ["same"] * right + list(range(8 - right))
        advantage = group_advantage(unique_rewards(tensor(rewards), answers, scale))
        assert float(advantage[:right].min()) > 0 > float(advantage[right:].max())


def test_a_group_of_right_answers_is_no_longer_idle_and_one_of_wrong_answers_is():
    right = tensor([1.0, 1.0, 1.0, 1.0])
    answers = ["2", "2", "3", "2"]
    assert not bool(group_advantage(right).any())
    advantage = group_advantage(unique_rewards(right, answers, 1.0))
    assert float(advantage[2]) > 0 > float(advantage[0])
    wrong = tensor([0.0, 0.0, 0.0, 0.0])
    assert not bool(group_advantage(unique_rewards(wrong, answers, 1.0)).any())


@functools.cache
def all_groups(
    count: int, right: int, size: int, scale: float, advantage
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every group of ``size`` draws from ``count`` answers, and its advantages; both (groups, G)."""
    draws = torch.tensor(list(itertools.product(range(count), repeat=size)))
    advantages = [advantage(unique_rewards((draw < right).double(), draw.tolist(), scale)) for draw in draws]
    return draws, torch.stack(advantages)


def expected_gradient(p_K: torch.Tensor, right: int, size: int, scale: float, advantage) -> torch.Tensor:
    """E[mean_i A_i grad_z log p(a_i)] over all groups of ``size`` draws from the softmax p, by enumeration.

    The first ``right`` of the K answers have reward 1, the others 0.
    """
    draws, advantages = all_groups(len(p_K), right, size, scale, advantage)
    weight = p_K[draws].prod(1, keepdim=True) * advantages / size
    gain_K = torch.zeros_like(p_K).index_add(0, draws.flatten(), weight.flatten())
    return gain_K - p_K * weight.sum()


MIXED = tensor([0.5, 0.2, 0.1, 0.2])  # three right answers and a wrong one
UNIFORM = tensor([0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("advantage", [group_advantage, centered_advantage])
def test_at_scale_zero_every_distribution_over_right_answers_rests(advantage):
    """Among right answers the expected gradient is the natural one of "right": p_k times one number."""
    of_all_right = tensor([0.6, 0.3, 0.1])
    assert float(expected_gradient(of_all_right, 3, 4, 0.0, advantage).abs().max()) < 1e-15
    rate = expected_gradient(MIXED, 3, 4, 0.0, advantage) / MIXED
    assert torch.allclose(rate[:3], rate[0].expand(3), rtol=0, atol=1e-14)
    assert float(rate[0]) > 0 > float(rate[3])


@pytest.mark.parametrize("advantage", [group_advantage, centered_advantage])
def test_at_scale_one_only_the_uniform_distribution_rests(advantage):
    """Exactly for the mean baseline, by enumeration for the z-score; elsewhere rarer answers gain."""
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert float(expected_gradient(uniform, 3, 4, 1.0, advantage).abs().max()) < 1e-15
    for first in (0.35, 0.4, 0.6, 0.9):
        p_K = tensor([first, (1 - first) * 0.51, (1 - first) * 0.49])
        rate = expected_gradient(p_K, 3, 4, 1.0, advantage) / p_K
        assert float(rate[0]) < float(rate[1]) < float(rate[2])
        assert float(rate.abs().max()) > 1e-4


@pytest.mark.parametrize("advantage", [group_advantage, centered_advantage])
def test_beside_wrong_answers_the_rarer_right_one_gains_more_and_the_wrong_one_loses(advantage):
    rate = expected_gradient(MIXED, 3, 4, 1.0, advantage) / MIXED
    assert float(rate[0]) < float(rate[1]) < float(rate[2])
    assert float(rate[3]) < 0 < float(rate[2])
    even = expected_gradient(UNIFORM, 3, 4, 1.0, advantage) / UNIFORM
    assert torch.allclose(even[:3], even[0].expand(3), rtol=0, atol=1e-14)
    assert float(even[3]) < 0 < float(even[0])


def test_following_the_expected_gradient_ends_at_the_uniform_distribution():
    z = torch.tensor([2.0, 0.0, -1.0, 0.5], dtype=torch.float64)
    for _ in range(400):
        z = z + 4.0 * expected_gradient(z.softmax(-1), 3, 3, 1.0, centered_advantage)
    p = z.softmax(-1)
    assert float(p[3]) < 0.01
    assert torch.allclose(p[:3], torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.01)


def group_of(rewards, answers, modes):
    group = bare_group([[1, 2]] * len(rewards), rewards, modes)
    for rollout, answer in zip(group.rollouts, answers, strict=True):
        rollout.answer = answer
    return group


MODES = [N, N, N, N, H, H, H, H]
REWARDS = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, None]
ANSWERS = ["2", "2", "5", "3", "3", "4", "5", "4"]


def z_score(values: np.ndarray, pool: np.ndarray) -> np.ndarray:
    inside = values[pool]
    return np.nan_to_num((values - inside.mean()) / (inside.std(ddof=1) + 1e-6))


@pytest.mark.parametrize("sharing", ["both", "none_pooled", "h_to_n"])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_only_the_high_entropy_mode_prefers_rare_answers(sharing, scale: float):
    """Counted over the group of both modes, which shares the baseline."""
    spec = PolicySplit(sharing=sharing, exploration=AnswerExploration(scale=scale))
    plan = PolicySplitAlgorithm(spec).plan(group_of(REWARDS, ANSWERS, MODES))
    plain = PolicySplitAlgorithm(PolicySplit(sharing=sharing)).plan(group_of(REWARDS, ANSWERS, MODES))
    rewards = np.array([NAN if reward is None else reward for reward in REWARDS])
    expected = z_score(shaped(rewards, ANSWERS, scale), ~np.isnan(rewards))
    assert np.allclose(plan.advantage_G[H].numpy(), expected, rtol=0, atol=1e-12)
    assert torch.equal(plan.advantage_G[N], plain.advantage_G[N])
    for mode in (N, H):
        assert torch.equal(plan.trains_G[mode], plain.trains_G[mode])


def test_without_sharing_the_answers_of_the_own_mode_count_alone():
    spec = PolicySplit(sharing="none", exploration=AnswerExploration())
    plan = PolicySplitAlgorithm(spec).plan(group_of(REWARDS, ANSWERS, MODES))
    own = np.array([NAN] * 4 + [1.0, 1.0, 0.0, NAN])
    expected = z_score(shaped(own, ANSWERS, 1.0), ~np.isnan(own))
    assert np.allclose(plan.advantage_G[H].numpy()[4:], expected[4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sharing", ["both", "none", "none_pooled", "h_to_n", "n_to_h"])
def test_scale_zero_is_the_paper_s_path_to_the_bit(sharing):
    group = group_of(REWARDS, ANSWERS, MODES)
    off = PolicySplitAlgorithm(PolicySplit(sharing=sharing, exploration=AnswerExploration(scale=0))).plan(
        group
    )
    paper = PolicySplitAlgorithm(PolicySplit(sharing=sharing)).plan(group)
    for mode in (N, H):
        assert torch.equal(off.advantage_G[mode], paper.advantage_G[mode])


def test_the_token_bonus_is_bounded_by_the_explored_advantage():
    spec = PolicySplit(eta=50.0, kappa=2.0, exploration=AnswerExploration())
    algorithm = PolicySplitAlgorithm(spec)
    plan = algorithm.plan(group_of(REWARDS, ANSWERS, MODES))
    logp_T = -torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = AdvantageInputs(plan, H, {N: 2 * logp_T, H: logp_T}, -logp_T, 0)
    bonus_T = algorithm.shape_advantage(inputs, MetricSums()) - inputs.rewarded_T
    assert bool((bonus_T.abs() <= inputs.rewarded_T.abs() / 2 + 1e-15).all())
    assert float(bonus_T.abs().max()) > 0


@pytest.mark.parametrize("kind", [Grpo, DrGrpo, Dapo, Gspo, Cispo])
def test_one_mode_has_it_as_uniqueness(kind):
    modes = [N] * 8
    plan = build_algorithm(kind(uniqueness=1.0), 8).plan(group_of(REWARDS, ANSWERS, modes))
    rewards = tensor(NAN if reward is None else reward for reward in REWARDS)
    algorithm = build_algorithm(kind(), 8)
    assert torch.equal(plan.advantage_G[N], algorithm.advantage(unique_rewards(rewards, ANSWERS, 1.0)))
    untouched = build_algorithm(kind(uniqueness=0.0), 8).plan(group_of(REWARDS, ANSWERS, modes))
    assert torch.equal(untouched.advantage_G[N], algorithm.advantage(rewards))


def test_a_step_tells_of_its_different_right_answers():
    """N is right in two ways, twice in one of them; H's two right responses differ."""
    found = answer_metrics([group_of(REWARDS, ANSWERS, MODES), group_of([0.0] * 8, ANSWERS, MODES)])
    assert found == pytest.approx(
        {
            "train/N/distinct_right": (2 + 0) / 2,
            "train/N/largest_share": 2 / 3,
            "train/H/distinct_right": (2 + 0) / 2,
            "train/H/largest_share": 1 / 2,
        }
    )


def test_dapo_keeps_a_group_of_different_right_answers():
    right = [1.0] * 4
    different, same = group_of(right, list("1123"), [N] * 4), group_of(right, list("1111"), [N] * 4)
    assert build_algorithm(Dapo(uniqueness=1.0)).keeps(different)
    assert not build_algorithm(Dapo(uniqueness=1.0)).keeps(same)
    assert not build_algorithm(Dapo()).keeps(different)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 6),
)
def test_distinct_right_answers_are_counted_as_by_enumeration(samples, k: int):
    answers, correct = zip(*samples, strict=True)
    n, k = len(samples), min(k, len(samples))
    draws = list(itertools.combinations(range(n), k))
    expected = sum(len({answers[i] for i in draw if correct[i]}) for draw in draws) / len(draws)
    assert distinct_right_at_k(n, right_answers(answers, correct).values(), k) == pytest.approx(expected)


def test_half_of_a_mixture_s_draws_come_from_each_mode():
    normal, high = ["a", "a", "x"], ["a", "b", "c"]
    right = {"a", "b", "c"}
    found = mixture_distinct_right_at_k(
        (3, right_answers(normal, [one in right for one in normal])),
        (3, right_answers(high, [one in right for one in high])),
        4,
    )
    pairs = [
        set(first + second) & right
        for first in itertools.combinations(normal, 2)
        for second in itertools.combinations(high, 2)
    ]
    assert found == pytest.approx(sum(map(len, pairs)) / len(pairs))


@pytest.mark.parametrize(
    "algorithm", [PolicySplit(exploration=AnswerExploration()), Grpo(uniqueness=0.5)], ids=["two", "one"]
)
def test_a_grader_that_knows_no_answers_is_refused_with_what_to_do(algorithm, tmp_path):
    """Before anything is loaded; the same grader with λ = 0 is taken."""
    data = write_rows(tmp_path / "data.jsonl")
    with pytest.raises(ValueError, match="does not extract answers: use a grader that does"):
        tiny_spec(tmp_path, data, algorithm)
    tiny_spec(tmp_path, data, PolicySplit(exploration=AnswerExploration(scale=0)))


class Letters:
    """A reward function that says what a response answers: in which half of the alphabet it begins."""

    def __call__(self, item, text: str) -> float:
        return float(text[:1].isalpha())

    def answer(self, item, text: str) -> str | None:
        return ("early" if text[:1].lower() < "n" else "late") if text else None


def test_a_run_of_the_library_explores_answers(tiny_model, tmp_path):
    """The rollouts have the function's answers, and the modes train apart from the paper's path."""
    data = write_rows(tmp_path / "data.jsonl")
    weights = {}
    for scale in (0.0, 1.0):
        spec = tiny_spec(
            tiny_model,
            data,
            PolicySplit(eta=0.0, sharing="none_pooled", exploration=AnswerExploration(scale=scale)),
            grader=None,
            total_steps=2,
        )
        result = train(spec, tmp_path / f"run-{scale}", reward=Letters())
        weights[scale] = load_file(f"{result.checkpoint}/model.safetensors")
    assert any(not torch.equal(weights[0.0][name], weights[1.0][name]) for name in weights[0.0])
    with pytest.raises(InvalidSpec, match=r"answer\(item, text\)"):
        train(
            tiny_spec(tiny_model, data, Grpo(uniqueness=1.0), grader=None),
            tmp_path / "refused",
            reward=lambda item, text: 1.0,
        )
