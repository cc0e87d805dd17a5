"""The clipped objective against an independent NumPy computation, gradients included."""

import numpy as np
import pytest
import torch

from trainer.objective.loss import BatchCounts, clipped_token_loss, token_weights


def numpy_loss(logp, old, advantage, low, high, omega):
    """Value and d loss / d logp, token by token, from the definition."""
    values, gradients = [], []
    for lp, o, a, w in zip(logp, old, advantage, omega, strict=True):
        ratio = np.exp(np.clip(lp - o, -20, 20))
        clipped = np.clip(ratio, 1 - low, 1 + high)
        unclipped_is_smaller = ratio * a <= clipped * a
        values.append(-w * min(ratio * a, clipped * a))
        gradients.append(-w * ratio * a if unclipped_is_smaller else 0.0)
    return np.array(values), np.array(gradients)


def test_values_and_gradients_match_numpy():
    rng = np.random.default_rng(0)
    logp, old = rng.normal(-2, 1, 200), rng.normal(-2, 1, 200)
    advantage, omega = rng.normal(0, 1, 200), rng.uniform(0, 2, 200)
    logp_T = torch.tensor(logp, requires_grad=True)
    token = clipped_token_loss(
        logp_T,
        torch.tensor(old),
        torch.tensor(advantage),
        clip_low=0.2,
        clip_high=0.28,
        importance_T=torch.tensor(omega),
    )
    values, gradients = numpy_loss(logp, old, advantage, 0.2, 0.28, omega)
    assert token.loss_T.detach().numpy() == pytest.approx(values, rel=1e-12)
    (gradient,) = torch.autograd.grad(token.loss_T.sum(), logp_T)
    assert gradient.numpy() == pytest.approx(gradients, rel=1e-12)
    assert bool(token.clipped_low_T.any()) and bool(token.clipped_high_T.any())
    clipped = (token.clipped_low_T | token.clipped_high_T).numpy()
    assert not gradients[clipped].any()


def test_ratio_of_improbable_tokens_stays_finite():
    logp = torch.tensor([0.0, -300.0], requires_grad=True)
    token = clipped_token_loss(
        logp, torch.tensor([-300.0, 0.0]), torch.tensor([-1.0, -1.0]), clip_low=0.2, clip_high=0.2
    )
    token.loss_T.sum().backward()
    assert logp.grad is not None
    assert bool(token.loss_T.isfinite().all()) and bool(logp.grad.isfinite().all())


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # two rows of 1 and 3 tokens in this mode, 12 weighted tokens over both modes, w = 0.5
        ("token_mean_per_mode", [0.5 / 4] * 4),
        ("token_mean", [0.5 / 12] * 4),
        ("sequence_mean", [0.5 / 2, 0.5 / 6, 0.5 / 6, 0.5 / 6]),
        ("sequence_sum", [0.5 / 2] * 4),
    ],
)
def test_token_weights_by_hand(aggregation, expected: list[float]):
    weights = token_weights(aggregation, 0.5, BatchCounts(tokens=4, rows=2), 12.0, torch.tensor([1, 3, 3, 3]))
    assert weights.tolist() == pytest.approx(expected)
