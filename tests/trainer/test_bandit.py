"""Policy gradients on a softmax bandit with every action enumerated, in closed form, through the real loss.

The expectation over actions is exact: each action is one row whose importance is its probability.
"""

import math

import pytest
import torch
from torch import Tensor

from trainer.objective.advantage import group_advantage
from trainer.objective.loss import clipped_token_loss
from trainer.objective.regularizer import clamp_bonus, mode_regularizer, policy_split_bonus, standardize
from trainer.spec.algorithm import PolicySplit

ACTIONS = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def entropy(z_V: Tensor) -> Tensor:
    log_p_V = z_V.log_softmax(-1)
    return -(log_p_V.exp() * log_p_V).sum()


def expected_ascent(z_V: Tensor, advantage_V: Tensor) -> Tensor:
    """sum_a p_a A_a d log p_a / dz: minus the clipped loss's exact gradient at rho = 1; (V,)."""
    z_V = z_V.detach().requires_grad_()
    logp_V = z_V.log_softmax(-1)
    token = clipped_token_loss(
        logp_V,
        logp_V.detach(),
        advantage_V,
        clip_low=0.2,
        clip_high=0.2,
        importance_T=logp_V.detach().exp(),
    )
    (gradient,) = torch.autograd.grad(token.loss_T.sum(), z_V)
    return -gradient


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_surprisal_as_advantage_ascends_the_entropy(seed: int, spread: float):
    """E[(-log pi) grad log pi] = grad H = -p (log p + H), three ways."""
    z = spread * draw(ACTIONS, seed=seed)
    logp = z.log_softmax(-1)
    surprisal = mode_regularizer(logp, logp, alpha=0.5)
    by_policy_gradient = expected_ascent(z, surprisal)
    variable = z.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(entropy(variable), variable)
    closed = -logp.exp() * (logp + entropy(z))
    assert torch.allclose(by_policy_gradient, closed, rtol=0, atol=1e-14)
    assert torch.allclose(by_autograd, closed, rtol=0, atol=1e-14)


@pytest.mark.parametrize("constant", [-3.0, 1e-3, 1.0, 100.0])
def test_an_advantage_of_the_state_alone_has_no_gradient(constant: float):
    """E[A(s) grad log pi] = 0. That is why a bonus of the token entropy H_t is not an entropy gradient."""
    z = draw(ACTIONS)
    assert float(expected_ascent(z, torch.full_like(z, constant)).abs().max()) < 1e-14 * abs(constant) + 1e-16
    by_entropy = entropy(z).expand(ACTIONS)
    assert float(expected_ascent(z, by_entropy).abs().max()) < 1e-14


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_bonus_ascends_entropy_plus_divergence(alpha: float):
    """On own rows E_H[b grad log pi^H] = grad [H(pi^H) + (1 - alpha) KL(pi^H || pi)], pi held fixed."""
    z_h, z_n = draw(2, ACTIONS, seed=1)
    log_n = z_n.log_softmax(-1)
    found = expected_ascent(z_h, mode_regularizer(z_h.log_softmax(-1), log_n, alpha))
    variable = z_h.clone().requires_grad_()
    log_h = variable.log_softmax(-1)
    target = entropy(variable) + (1 - alpha) * (log_h.exp() * (log_h - log_n)).sum()
    (expected,) = torch.autograd.grad(target, variable)
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_bonus_on_shared_rows_ascends_a_cross_entropy(alpha: float):
    """Rows of pi (Q4) at rho = 1 move pi^H by E_pi[b grad log pi^H]: toward where b is high under pi."""
    z_h, z_n = draw(2, ACTIONS, seed=2)
    n = z_n.softmax(-1)
    b = mode_regularizer(z_h.log_softmax(-1), z_n.log_softmax(-1), alpha)
    variable = z_h.clone().requires_grad_()
    logp = variable.log_softmax(-1)
    token = clipped_token_loss(logp, logp.detach(), b, clip_low=0.2, clip_high=0.2, importance_T=n)
    (gradient,) = torch.autograd.grad(token.loss_T.sum(), variable)
    closed = n * b - z_h.softmax(-1) * (n * b).sum()
    assert torch.allclose(-gradient, closed, rtol=0, atol=1e-14)


def fixed_point(advantage: Tensor, log_n: Tensor, alpha: float, scale: float) -> Tensor:
    """log pi^H*, where pi^H* is proportional to exp(A / (c alpha)) pi^(-(1 - alpha) / alpha)."""
    return (advantage / (scale * alpha) - (1 - alpha) / alpha * log_n).log_softmax(-1)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_fixed_point_of_the_unclamped_bonus(alpha: float, scale: float):
    """Own rows, fixed pi, b at scale c: from anywhere the exact gradient leads to the closed form."""
    advantage = group_advantage(torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.0], dtype=torch.float64))
    log_n = draw(ACTIONS, seed=3).log_softmax(-1)
    expected = fixed_point(advantage, log_n, alpha, scale)
    for seed in (4, 5):
        z = draw(ACTIONS, seed=seed)
        for _ in range(60):
            log_h = z.log_softmax(-1)
            shaped = advantage + scale * mode_regularizer(log_h, log_n, alpha)
            # Divided by p: the natural gradient of a softmax, which converges alike for rare actions.
            z = z + 0.5 / (scale * alpha) * expected_ascent(z, shaped) / log_h.exp()
        assert torch.allclose(z.log_softmax(-1), expected, rtol=0, atol=1e-12)


def test_plain_gradient_ascent_ends_at_the_same_point():
    advantage = torch.tensor([0.5, -0.5, 0.2], dtype=torch.float64)
    log_n = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    z = torch.zeros(3, dtype=torch.float64)
    for _ in range(400):
        shaped = advantage + mode_regularizer(z.log_softmax(-1), log_n, 0.5)
        z = z + 1.5 * expected_ascent(z, shaped)
    assert torch.allclose(z.log_softmax(-1), fixed_point(advantage, log_n, 0.5, 1.0), rtol=0, atol=1e-10)


def test_the_z_score_changes_the_scale_alone():
    """Its mean is the same for all actions, without effect; its deviation divides: c = eta / std b."""
    z_h, z_n = draw(2, ACTIONS, seed=6)
    log_h, log_n = z_h.log_softmax(-1), z_n.log_softmax(-1)
    advantage = draw(ACTIONS, seed=7)
    b = mode_regularizer(log_h, log_n, 0.5)
    scale = 0.03 / (float(b.std()) + 1e-6)
    bonus = policy_split_bonus(log_h, log_n, advantage, eta=0.03, alpha=0.5, kappa=1e-9)
    assert torch.allclose(
        expected_ascent(z_h, advantage + bonus), expected_ascent(z_h, advantage + scale * b), atol=1e-14
    )
    optimum = fixed_point(advantage, log_n, 0.5, scale)
    at_optimum = advantage + scale * mode_regularizer(optimum, log_n, 0.5)
    assert float(expected_ascent(optimum, at_optimum).abs().max()) < 1e-13


def test_a_clamped_bonus_keeps_a_wrong_action_from_gaining():
    """kappa > 1: an action with A < 0 never has a positive advantage, however surprising it is."""
    log_h = torch.tensor([0.9, 0.09, 0.01], dtype=torch.float64).log()
    advantage = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)
    free = advantage + 5.0 * standardize(mode_regularizer(log_h, log_h, 1.0))
    kept = advantage + clamp_bonus(standardize(mode_regularizer(log_h, log_h, 1.0)), advantage, 5.0, 2.0)
    assert float(free[2]) > 0 > float(kept[2])


def test_the_two_clip_orders_differ_by_at_most_one_over_eta():
    spec = PolicySplit()
    z = draw(500, seed=8)
    advantage = draw(500, seed=9)
    inside, outside = (
        clamp_bonus(z, advantage, spec.eta, spec.kappa, order) for order in ("inside", "outside")
    )
    ratio = (inside / outside)[outside != 0]
    assert float(ratio.min()) >= 1.0 - 1e-12
    assert float(ratio.max()) <= 1 / spec.eta + 1e-9
    tail = clamp_bonus(1e3 * z, advantage, spec.eta, spec.kappa, "inside")
    ends = clamp_bonus(1e3 * z, advantage, spec.eta, spec.kappa, "outside")
    assert math.isclose(float(tail[0] / ends[0]), 1 / spec.eta, rel_tol=1e-9)
