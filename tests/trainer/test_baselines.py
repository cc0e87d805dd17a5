"""What each baseline adds to GRPO, against hand-computed values and independent computations."""

import math

import numpy as np
import pytest
import torch

from tests.fixtures.groups import N, load_tiny_policy, make_group
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import AdvantageInputs, Algorithm, BatchItem, GroupPlan
from trainer.algorithms.token_choice import TokenChoiceAlgorithm
from trainer.model.logprobs import token_logprobs
from trainer.model.scoring import Scores
from trainer.objective.advantage import centered_advantage
from trainer.objective.covariance import draw_within, largest, token_covariance
from trainer.objective.metrics import MetricSums
from trainer.objective.shaping import entropy_bonus, entropy_ratio, mean_per_response, overlong_penalty
from trainer.spec.algorithm import (
    AdaptiveEntropy,
    Cispo,
    ClipCov,
    Dapo,
    EdgeGrpo,
    EntropyAdvantage,
    EntropyBonus,
    ForkingTokens,
    Grpo,
    Gspo,
    KlCov,
)
from trainer.steps.group_loss import Old, batch_counts, group_loss

NAN = math.nan


@pytest.fixture(scope="module")
def policy(tiny_model):
    return load_tiny_policy(tiny_model)


def random_values(plans: list[GroupPlan], seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities and entropies for the tokens of each group."""
    generator = torch.Generator().manual_seed(seed)
    counts = [int(plan.group.lengths_G.sum()) for plan in plans]
    drawn = [torch.rand(2, count, generator=generator, dtype=torch.float64) for count in counts]
    return [(-5 * both[0], 3 * both[1]) for both in drawn]


def observe(algorithm: Algorithm, plans: list[GroupPlan], values, seed: int = 0) -> dict[str, float]:
    metrics = MetricSums()
    batch = [
        BatchItem(plan, {N: logp}, {N: entropy}) for plan, (logp, entropy) in zip(plans, values, strict=True)
    ]
    algorithm.observe_batch(batch, torch.Generator().manual_seed(seed), metrics)
    return metrics.result()


def loss_of(algorithm: Algorithm, plans: list[GroupPlan], logp, entropy, old) -> torch.Tensor:
    counts = batch_counts(plans, (N,))
    total = torch.zeros((), dtype=torch.float64)
    for plan, logp_T, entropy_T, old_T in zip(plans, logp, entropy, old, strict=True):
        scores = {N: Scores(logp_T, entropy_T, torch.zeros(len(logp_T), 1))}
        total = total + group_loss(algorithm, plan, scores, Old({N: old_T}), counts, 0, MetricSums())
    return total


# --- advantages and rewards ----------------------------------------------------------------------------


def test_dr_grpo_centres_and_does_not_divide():
    rewards = torch.tensor([1.0, 0.0, 0.0, NAN, 0.2], dtype=torch.float64)
    assert centered_advantage(rewards).tolist() == pytest.approx([0.7, -0.3, -0.3, 0.0, -0.1])
    assert not centered_advantage(torch.full((3,), 0.1, dtype=torch.float64)).any()


def test_overlong_penalty_by_hand():
    # L = 100, C = 20: nothing up to 80, half at 90, all at 100 and beyond
    lengths = torch.tensor([0, 80, 85, 90, 100, 130])
    assert overlong_penalty(lengths, 100, 20).tolist() == pytest.approx([0, 0, -0.25, -0.5, -1, -1])
    assert overlong_penalty(lengths, 100, 0).tolist() == [0, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(("buffer", "expected"), [(None, [1.0, 0.5, -1.0]), (4, [1.0, 0.75, -1.0])])
def test_dapo_shapes_the_reward_of_advantages_alone(policy, buffer, expected):
    """L = 10; a buffer of a fifth begins after 8 tokens, one of 4 after 6."""
    group = make_group(policy, [1.0, 1.0, 0.0], [N] * 3, lengths=[3, 9 if buffer is None else 7, 10])
    algorithm = build_algorithm(Dapo(overlong_buffer=buffer), max_response_tokens=10)
    assert algorithm.shaped_rewards(group).tolist() == pytest.approx(expected)
    assert group.rewards_G.tolist() == [1.0, 1.0, 0.0]
    shaped = torch.tensor(expected, dtype=torch.float64)
    z = (shaped - shaped.mean()) / (shaped.std() + 1e-6)
    assert torch.allclose(algorithm.plan(group).advantage_G[N], z)
    halved = build_algorithm(Dapo(overlong_buffer=buffer, overlong_penalty=0.5), max_response_tokens=10)
    loss = [1.0, 1.0, 0.0] - shaped.numpy()
    assert halved.shaped_rewards(group).tolist() == pytest.approx([1.0, 1.0, 0.0] - loss / 2)
    unshaped = build_algorithm(Dapo(overlong_buffer=0), max_response_tokens=10)
    assert torch.equal(unshaped.shaped_rewards(group), group.rewards_G)


def test_dapo_keeps_groups_whose_graded_rewards_differ(policy):
    algorithm = build_algorithm(Dapo(), max_response_tokens=10)
    rewards = {(1.0, 0.0): True, (1.0, 1.0): False, (0.0, 0.0): False, (1.0, None): False}
    for given, kept in rewards.items():
        # Of unequal lengths: a penalty on one of them makes no difference.
        assert algorithm.keeps(make_group(policy, given, [N] * 2, lengths=[2, 10])) is kept


def test_entropy_advantage_by_hand():
    entropy = torch.tensor([0.5, 3.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    bonus = entropy_bonus(entropy, advantage, scale=0.4, kappa=2.0)
    assert bonus.tolist() == pytest.approx([0.2, 0.5, 0.5, 0.0])
    assert not bonus.requires_grad
    assert bool(((advantage + bonus).sign() == advantage.sign()).all())


def test_entropy_advantage_is_what_the_loss_gets(policy):
    plan = build_algorithm(EntropyAdvantage()).plan(make_group(policy, [1.0, 0.0], [N] * 2, lengths=[2, 1]))
    metrics = MetricSums()
    entropy = torch.tensor([0.1, 5.0, 0.2], dtype=torch.float64)
    inputs = AdvantageInputs(plan, N, {}, entropy, step=0)
    shaped = build_algorithm(EntropyAdvantage()).shape_advantage(inputs, metrics)
    a = float(plan.advantage_G[N][0])
    assert shaped.tolist() == pytest.approx([a + 0.04, a + a / 2, -a + 0.08])
    assert metrics.result()["train/N/bonus_max"] == pytest.approx(a / 2)
    assert metrics.result()["train/N/bonus_clipfrac"] == pytest.approx(1 / 3)


def test_edge_grpo_by_hand(policy):
    """Mean entropies 1, 4 | 0.02, 2.98 have the mean 2: ratios 2, 1/2, 100 clamped to 10, and 2/2.98."""
    algorithm = build_algorithm(EdgeGrpo())
    groups = [
        make_group(policy, [1.0, 0.0], [N] * 2, lengths=[2, 1]),
        # Empty, and not graded: neither counts in the mean.
        make_group(policy, [0.0, 1.0, 0.5, None], [N] * 4, lengths=[1, 1, 0, 1], index=1),
    ]
    plans = [algorithm.plan(group) for group in groups]
    entropies = [torch.tensor([0.5, 1.5, 4.0]), torch.tensor([0.02, 2.98, 50.0])]
    entropies = [entropy.double() for entropy in entropies]
    observe(algorithm, plans, [(torch.zeros_like(entropy), entropy) for entropy in entropies])
    for plan, entropy, ratios in zip(plans, entropies, ([2.0, 2.0, 0.5], [10.0, 2 / 2.98, 0.1]), strict=True):
        shaped = algorithm.shape_advantage(AdvantageInputs(plan, N, {}, entropy, step=0), MetricSums())
        plain = plan.advantage_G[N][plan.group.response_of_T]
        assert torch.allclose(shaped, plain * torch.tensor(ratios, dtype=torch.float64))


def test_entropy_ratio_of_certain_responses():
    assert entropy_ratio(torch.tensor([0.0, 1.0]), 0.5).tolist() == pytest.approx([10.0, 0.5])
    assert entropy_ratio(torch.zeros(2), 0.0).tolist() == [1.0, 1.0]


def test_means_per_response():
    values = torch.tensor([1.0, 3.0, 5.0])
    assert mean_per_response(values, torch.tensor([0, 0, 2]), 3).tolist() == [2.0, 0.0, 5.0]


# --- covariance ------------------------------------------------------------------------------------------


def cov_batch(policy, spec):
    """Three groups, one response ungraded; the algorithm, its plans, and random values."""
    algorithm = build_algorithm(spec)
    rewards = [[1.0, 0.0, 0.0], [0.0, None, 1.0], [1.0, 1.0, 1.0]]
    groups = [
        make_group(policy, given, [N] * 3, index=index, lengths=[7, 5, 4])
        for index, given in enumerate(rewards)
    ]
    plans = [algorithm.plan(group) for group in groups]
    return algorithm, plans, random_values(plans)


def numpy_covariance(plans: list[GroupPlan], values) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of every trained token from its definition, and which tokens of the batch train."""
    advantage, logp, trains = [], [], []
    for plan, (logp_T, _) in zip(plans, values, strict=True):
        position = 0
        for index, rollout in enumerate(plan.group.rollouts):
            for _ in rollout.response_ids:
                advantage.append(float(plan.advantage_G[N][index]))
                logp.append(float(logp_T[position]))
                trains.append(rollout.reward is not None)
                position += 1
    a, lp, mask = np.array(advantage), np.array(logp), np.array(trains)
    return (a[mask] - a[mask].mean()) * (lp[mask] - lp[mask].mean()), mask


def batch_choice(algorithm, plans) -> np.ndarray:
    return torch.cat([algorithm.chosen(plan) for plan in plans]).numpy()


def test_kl_cov_chooses_as_numpy_does(policy):
    algorithm, plans, values = cov_batch(policy, KlCov(share=0.1))
    observe(algorithm, plans, values)
    covariance, mask = numpy_covariance(plans, values)
    assert mask.sum() == 43 and len(mask) == 48
    expected = np.zeros(43, dtype=bool)
    expected[np.argsort(covariance)[-4:]] = True  # floor(0.1 * 43)
    found = batch_choice(algorithm, plans)
    assert found[mask].tolist() == expected.tolist()
    assert not found[~mask].any()


def test_kl_cov_loss_and_gradient_match_numpy(policy):
    spec = KlCov(share=0.1, kl_coefficient=0.7)
    algorithm, plans, values = cov_batch(policy, spec)
    observe(algorithm, plans, values)
    covariance, mask = numpy_covariance(plans, values)
    logp = [value[0].clone().requires_grad_() for value in values]
    old = [value[0] + 0.5 * torch.cos(torch.arange(len(value[0])).double()) for value in values]
    loss = loss_of(algorithm, plans, logp, [value[1] for value in values], old)
    gradient = torch.cat(torch.autograd.grad(loss, logp)).numpy()
    x = torch.cat([now.detach() - then for now, then in zip(logp, old, strict=True)]).numpy()
    a = torch.cat([plan.advantage_G[N][plan.group.response_of_T] for plan in plans]).numpy()
    chosen = np.zeros(len(mask), dtype=bool)
    chosen[np.flatnonzero(mask)[np.argsort(covariance)[-4:]]] = True
    token_loss = -np.exp(x) * a + 0.7 * np.abs(x) * chosen
    token_gradient = -np.exp(x) * a + 0.7 * np.sign(x) * chosen
    assert loss.item() == pytest.approx(token_loss[mask].mean(), rel=1e-12)
    assert gradient == pytest.approx(token_gradient * mask / mask.sum(), rel=1e-12)


def test_kl_cov_penalty_has_no_gradient_on_policy(policy):
    gradients = []
    for coefficient in (0.0, 100.0):
        algorithm, plans, values = cov_batch(policy, KlCov(share=0.5, kl_coefficient=coefficient))
        observe(algorithm, plans, values)
        logp = [value[0].clone().requires_grad_() for value in values]
        loss = loss_of(algorithm, plans, logp, [v[1] for v in values], [v[0] for v in values])
        gradients.append(torch.cat(torch.autograd.grad(loss, logp)))
    assert torch.equal(*gradients)
    assert bool(gradients[0].any())


def test_clip_cov_takes_tokens_of_the_band_out_of_the_gradient(policy):
    spec = ClipCov(share=0.1, band_low=0.1, band_high=1.5)
    algorithm, plans, values = cov_batch(policy, spec)
    metrics = observe(algorithm, plans, values)
    covariance, mask = numpy_covariance(plans, values)
    band = np.zeros(len(mask), dtype=bool)
    band[mask] = (covariance > 0.1) & (covariance < 1.5)
    detached = batch_choice(algorithm, plans)
    assert band.sum() > 4
    assert detached.sum() == 4  # floor(0.1 * 43)
    assert not (detached & ~band).any()
    assert metrics["train/N/tokens_chosen"] == pytest.approx(4 / 43)
    logp = [value[0].clone().requires_grad_() for value in values]
    inputs = ([value[1] for value in values], [value[0] - 0.1 for value in values])
    loss = loss_of(algorithm, plans, logp, *inputs)
    gradient = torch.cat(torch.autograd.grad(loss, logp)).numpy()
    plain = loss_of(build_algorithm(Grpo(aggregation="token_mean")), plans, logp, *inputs)
    expected = torch.cat(torch.autograd.grad(plain, logp)).numpy()
    assert loss.item() == plain.item()
    assert gradient.tolist() == np.where(detached, 0.0, expected).tolist()
    assert expected[detached].any()


def test_clip_cov_draws_from_the_seed():
    covariance = torch.linspace(-2, 6, 1000, dtype=torch.float64)
    draws = [draw_within(covariance, 1, 5, 0.05, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert all(int(draw.sum()) == 50 for draw in draws)


def test_choices_are_at_least_one_and_at_most_what_there_is():
    covariance = torch.tensor([0.0, 2.0, 3.0, 9.0])
    generator = torch.Generator().manual_seed(0)
    assert int(draw_within(covariance, 1, 5, 1e-9, generator).sum()) == 1
    assert draw_within(covariance, 1, 5, 1.0, generator).tolist() == [False, True, True, False]
    assert not draw_within(covariance, 20, 50, 1.0, generator).any()
    assert largest(covariance, 1e-9).tolist() == [False, False, False, True]
    empty = token_covariance(torch.zeros(0), torch.zeros(0))
    assert len(largest(empty, 0.5)) == len(draw_within(empty, 1, 5, 0.5, generator)) == 0


# --- entropy ---------------------------------------------------------------------------------------------


def test_forking_tokens_are_those_of_the_whole_batch(policy):
    """H = 1..10 over two groups and an ungraded response: the 0.8 quantile is 8.2, so 9 and 10 train."""
    algorithm = build_algorithm(ForkingTokens())
    assert isinstance(algorithm, TokenChoiceAlgorithm)
    groups = [
        make_group(policy, [1.0, 0.0, None], [N] * 3, lengths=[2, 2, 2]),
        make_group(policy, [1.0, 0.0], [N] * 2, lengths=[5, 1], index=1),
    ]
    plans = [algorithm.plan(group) for group in groups]
    entropy = [
        torch.tensor([1.0, 10.0, 3.0, 4.0, 99.0, 99.0]).double(),
        torch.tensor([5.0, 6.0, 7.0, 8.0, 2.0, 9.0]).double(),
    ]
    values = [(torch.zeros_like(one), one) for one in entropy]
    metrics = observe(algorithm, plans, values)
    chosen = [algorithm.chosen(plan).nonzero().squeeze(-1).tolist() for plan in plans]
    assert chosen == [[1], [5]]
    assert metrics["train/N/tokens_chosen"] == 0.2
    logp = [value[0].clone().requires_grad_() for value in values]
    loss = loss_of(algorithm, plans, logp, entropy, [value[0] for value in values])
    gradients = torch.autograd.grad(loss, logp)
    a = float(plans[0].advantage_G[N][0])
    # Divided by all ten trained tokens, not by two.
    assert gradients[0].tolist() == pytest.approx([0, -a / 10, 0, 0, 0, 0])
    assert gradients[1].tolist() == pytest.approx([0, 0, 0, 0, 0, a / 10])
    assert loss.item() == pytest.approx(0.0)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_entropy_bonus_has_the_gradient_of_plain_autograd(policy, aggregation):
    """Loss and gradient from hidden states through log-probability and entropy; two groups, one flat."""
    spec = EntropyBonus(coefficient=0.3, aggregation=aggregation)
    algorithm = build_algorithm(spec)
    rewards = [[1.0, 0.0], [1.0, 1.0]]
    groups = [make_group(policy, given, [N] * 2, index=i, lengths=[3, 2]) for i, given in enumerate(rewards)]
    plans = [algorithm.plan(group) for group in groups]
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(10, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    output = torch.randn(7, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    token = torch.randint(0, 7, (10,), generator=generator)
    logp, entropy = token_logprobs(hidden, output, token)
    old = logp.detach()
    loss = loss_of(algorithm, plans, logp.split(5), entropy.split(5), old.split(5))
    found = torch.autograd.grad(loss, (hidden, output))

    log_p = torch.log_softmax(hidden @ output.t(), dim=-1)
    plain_entropy = -(log_p.exp() * log_p).sum(-1)
    ratio = torch.exp(log_p[torch.arange(10), token] - old)
    advantage = torch.cat([plan.advantage_G[N][plan.group.response_of_T] for plan in plans])
    lengths = torch.tensor([3.0, 3.0, 3.0, 2.0, 2.0] * 2, dtype=torch.float64)
    weight = torch.full_like(lengths, 0.1) if aggregation == "token_mean" else 1 / (4 * lengths)
    expected = -(weight * ratio * advantage).sum() - 0.3 * plain_entropy.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(found, torch.autograd.grad(expected, (hidden, output)), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_adaptive_controller_by_hand():
    spec = AdaptiveEntropy(
        target_entropy=1.0, initial_coefficient=0.001, coefficient_step=0.002, max_coefficient=0.004
    )
    algorithm = build_algorithm(spec)
    name = "train/entropy_coefficient"
    assert algorithm.schedule_metrics(0)[name] == 0.001
    # H of a step -> c afterwards, and the coefficient in force in the next step
    for entropy, kept, in_force in [
        (0.9, 0.003, 0.003),
        (0.9, 0.004, 0.004),
        (1.0, 0.002, 0.0),
        (1.5, 0.0, 0.0),
        (0.5, 0.002, 0.002),
    ]:
        algorithm.after_step({"train/N/entropy_nats": entropy})
        assert algorithm.state()["coefficient"] == pytest.approx(kept)
        assert algorithm.schedule_metrics(0)[name] == pytest.approx(in_force)
        restored = build_algorithm(spec)
        restored.load_state(algorithm.state())
        assert restored.state() == algorithm.state()
        assert restored.schedule_metrics(0) == algorithm.schedule_metrics(0)
    before = algorithm.state()
    algorithm.after_step({})
    assert algorithm.state() == before


# --- ratios ----------------------------------------------------------------------------------------------


def test_gspo_at_ratio_one_has_the_gradient_of_grpo(policy):
    group = make_group(policy, [1.0, 0.0, 0.5], [N] * 3, lengths=[4, 1, 0])
    (values,) = random_values([build_algorithm(Grpo()).plan(group)])
    gradients = []
    for spec in (Grpo(), Gspo()):
        algorithm = build_algorithm(spec)
        logp = values[0].clone().requires_grad_()
        loss = loss_of(algorithm, [algorithm.plan(group)], [logp], [values[1]], [values[0]])
        gradients.append(torch.autograd.grad(loss, logp)[0])
    assert torch.allclose(*gradients, rtol=1e-12)


def test_cispo_caps_the_weight_and_keeps_the_gradient(policy):
    """rho = 8 is capped at 5 and rho = 1/2 is not; d/dlogp of w A log pi is w A, whatever the sign of A."""
    algorithm = build_algorithm(Cispo())
    group = make_group(policy, [1.0, 0.0], [N] * 2, lengths=[2, 2])
    plan = algorithm.plan(group)
    old = torch.full((4,), -3.0, dtype=torch.float64)
    ratios = torch.tensor([8.0, 0.5, 8.0, 0.5], dtype=torch.float64)
    logp = (old + ratios.log()).requires_grad_()
    loss = loss_of(algorithm, [plan], [logp], [torch.zeros(4)], [old])
    a = float(plan.advantage_G[N][0])
    weights = torch.tensor([5.0, 0.5, -5.0, -0.5], dtype=torch.float64) * a / 4
    assert torch.allclose(torch.autograd.grad(loss, logp)[0], -weights)
    assert loss.item() == pytest.approx(-float((weights * logp.detach()).sum()))
