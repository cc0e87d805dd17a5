"""Rewards, advantages and averages per response: the pure functions that the baselines share."""

import torch
from torch import Tensor

from trainer.objective.transfer import placed


def overlong_penalty(lengths_G: Tensor, limit: int, buffer: float) -> Tensor:
    """Soft overlong punishment (DAPO, arXiv 2503.14476, section 3.4), float64, shape (G,).

    0 for |y| <= L - C, ((L - C) - |y|) / C up to L, -1 beyond; L = ``limit`` and C = ``buffer`` in tokens.
    """
    if buffer <= 0:
        return -(lengths_G > limit).double()
    return ((limit - buffer - lengths_G.double()) / buffer).clamp(-1.0, 0.0)


def mean_per_response(value_T: Tensor, response_of_T: Tensor, responses: int) -> Tensor:
    """Mean of ``value_T`` over the tokens of each response, shape (G,); 0 for a response without tokens."""
    response_of_T = placed(response_of_T, value_T.device)
    zeros_G = value_T.new_zeros(responses)
    sums_G = zeros_G.index_add(0, response_of_T, value_T)
    counts_G = zeros_G.index_add(0, response_of_T, torch.ones_like(value_T))
    return sums_G / counts_G.clamp(min=1.0)


def entropy_bonus(entropy_T: Tensor, advantage_T: Tensor, scale: float, kappa: float) -> Tensor:
    """min(a sg[H_t], |A_t| / kappa), shape (T,) ("Reasoning with Exploration", arXiv 2506.14758).

    Added to the advantage; with kappa > 1 it keeps the advantage's sign. H in nats.
    """
    return torch.minimum(scale * entropy_T.detach(), advantage_T.abs() / kappa)


def entropy_ratio(
    entropy_G: Tensor, batch_mean: float, low: float = 0.1, high: float = 10.0, epsilon: float = 1e-12
) -> Tensor:
    """mean H of the batch / mean H of each response, clamped to [low, high]; shape (G,) (EDGE-GRPO).

    ``epsilon`` makes the ratio of two zero entropies 1.
    """
    return ((batch_mean + epsilon) / (entropy_G + epsilon)).clamp(low, high)
