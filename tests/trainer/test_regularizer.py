"""The bonus against hand-computed tables, and the identities of the paper's section 3.3."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.objective.regularizer import clamp_bonus, mode_regularizer, policy_split_bonus, standardize

Z = torch.tensor([-20.0, -1.0, 0.0, 1.0, 20.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("advantage", "inside", "outside"),
    [
        # bound |A| / kappa = 0.2; eta = 0.03
        (0.4, [-0.2, -0.03, 0.0, 0.03, 0.2], [-0.006, -0.006, 0.0, 0.006, 0.006]),
        # bound 1.0
        (-2.0, [-0.6, -0.03, 0.0, 0.03, 0.6], [-0.03, -0.03, 0.0, 0.03, 0.03]),
        (0.0, [0.0] * 5, [0.0] * 5),
    ],
)
def test_clip_orders_by_hand(advantage: float, inside: list[float], outside: list[float]):
    advantage_T = torch.full_like(Z, advantage)
    assert clamp_bonus(Z, advantage_T, 0.03, 2.0, "inside").tolist() == pytest.approx(inside)
    assert clamp_bonus(Z, advantage_T, 0.03, 2.0, "outside").tolist() == pytest.approx(outside)


def test_regularizer_by_hand():
    own, other = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -0.5])
    assert mode_regularizer(own, other, alpha=0.25).tolist() == [0.25 * 1 + 0.75 * 3, 0.25 * 2 + 0.75 * 0.5]


def test_regularizer_carries_no_gradient():
    own = torch.tensor([-1.0, -2.0], requires_grad=True)
    assert not mode_regularizer(own, own * 2, alpha=0.5).requires_grad


@given(st.floats(0, 1))
def test_alpha_is_irrelevant_where_the_modes_agree(alpha: float):
    """R5: if pi^H is pi then b does not depend on alpha."""
    logp = torch.tensor([-0.1, -2.0, -7.0], dtype=torch.float64)
    assert torch.allclose(mode_regularizer(logp, logp, alpha), -logp, rtol=1e-12)


@given(
    # The least numbers there are have no third: A / kappa would be A again.
    st.lists(
        st.tuples(st.floats(-30, 0), st.floats(-30, 0), st.floats(-3, 3, allow_subnormal=False)),
        min_size=2,
        max_size=20,
    ),
    st.floats(1.01, 10),
    st.floats(0, 100),
    st.sampled_from(["inside", "outside"]),
)
def test_sign_of_the_advantage_is_kept(tokens, kappa: float, eta: float, order):
    """R11: for kappa > 1 the shaped advantage has the sign of A (``outside`` needs eta <= 1 as well)."""
    own, other, advantage = torch.tensor(tokens, dtype=torch.float64).unbind(-1)
    if order == "outside":
        eta = min(eta, 1.0)
    bonus = policy_split_bonus(own, other, advantage, eta=eta, alpha=0.5, kappa=kappa, clip_order=order)
    assert torch.equal((advantage + bonus).sign(), advantage.sign())


@given(st.floats(0, 1e6))
def test_infinite_kappa_makes_eta_irrelevant(eta: float):
    """R4: the bound |A| / kappa goes to zero."""
    own, advantage = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1.0, -1.0, 0.5])
    bonus = policy_split_bonus(own, own * 2, advantage, eta=eta, alpha=0.5, kappa=math.inf)
    assert not bonus.any()


def test_z_score_over_all_tokens_given():
    z = standardize(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert z.tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-5)
    assert not standardize(torch.full((5,), 0.1)).any()
    assert standardize(torch.tensor([3.0])).tolist() == [0.0]


def test_mean_of_b_is_entropy_plus_divergence():
    """E_H[b] = H(pi^H) + (1 - alpha) KL(pi^H || pi); E_N[b] = H(pi) + alpha KL(pi || pi^H)."""
    generator = torch.Generator().manual_seed(0)
    log_n, log_h = torch.randn(2, 7, dtype=torch.float64, generator=generator).log_softmax(-1)
    n, h = log_n.exp(), log_h.exp()
    alpha = 0.3
    b = mode_regularizer(log_h, log_n, alpha)
    entropy_h, entropy_n = -(h * log_h).sum(), -(n * log_n).sum()
    assert torch.allclose((h * b).sum(), entropy_h + (1 - alpha) * (h * (log_h - log_n)).sum(), rtol=1e-12)
    assert torch.allclose((n * b).sum(), entropy_n + alpha * (n * (log_n - log_h)).sum(), rtol=1e-12)
