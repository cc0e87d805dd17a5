"""Group-relative advantages (GRPO, arXiv 2402.03300, equation 1; Policy Split, section 3.2)."""

import torch
from torch import Tensor

EPSILON = 1e-6


def group_advantage(rewards_G: Tensor, baseline_G: Tensor | None = None) -> Tensor:
    """A_i = (r_i - mean r) / (std r + 1e-6) over the responses that have a reward.

    Args:
        rewards_G: rewards of one prompt's responses, shape (G,); NaN where the grader gave none.
        baseline_G: boolean mask of the responses that mean and std are taken over (default: all).

    Returns:
        Advantages, shape (G,). Zero where the reward is NaN, and everywhere when fewer than two rewards
        exist or all are equal: then there is nothing to prefer. ``std`` is the sample deviation.
    """
    graded_G = ~rewards_G.isnan()
    pool = rewards_G[graded_G if baseline_G is None else graded_G & baseline_G]
    # Equal rewards are tested for, not computed: mean() of n equal floats can differ from them by an ulp,
    # which the division by 1e-6 would turn into a gradient.
    if pool.numel() < 2 or bool(pool.min() == pool.max()):
        return torch.zeros_like(rewards_G)
    advantage_G = (rewards_G - pool.mean()) / (pool.std() + EPSILON)
    return torch.where(graded_G, advantage_G, torch.zeros_like(advantage_G))


def centered_advantage(rewards_G: Tensor) -> Tensor:
    """A_i = r_i - mean r over the responses that have a reward (Dr. GRPO, arXiv 2503.20783, section 3.2).

    Not divided by the deviation, which would weigh easy and hard prompts up. Zero where ``group_advantage``
    is zero. Shapes (G,).
    """
    graded_G = ~rewards_G.isnan()
    pool = rewards_G[graded_G]
    if pool.numel() < 2 or bool(pool.min() == pool.max()):
        return torch.zeros_like(rewards_G)
    return torch.where(graded_G, rewards_G - pool.mean(), torch.zeros_like(rewards_G))


def has_variance(rewards_G: Tensor) -> bool:
    """Whether any graded response of a group is preferred to another."""
    graded = rewards_G[~rewards_G.isnan()]
    return graded.numel() >= 2 and bool(graded.min() != graded.max())
