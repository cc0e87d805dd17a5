"""Exploration at the level of answers: the more responses of a group give an answer, the less each earns.

r'_i = r⁻_i + (r_i − r⁻_i) · c_i^(−λ)

where c_i is how many responses of the group have the answer of response i, and r⁻_i is the next lower reward
that occurs in the group, 0 where there is none. For rewards of 0 and 1 that is r_i · c_i^(−λ). A reward is
pulled towards the next lower one and never reaches it, so no better answer falls to or below a worse one.

At λ = 0 the expected advantage of all right answers is the same, so sampling noise alone decides which of
them survives. At λ > 0 an answer's expected r' falls with its own probability until all right ones are
equally likely. Kin, for one mode: uniqueness-aware reinforcement learning (arXiv 2601.08763), outcome-based
exploration (arXiv 2509.06941).
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


def unique_rewards(rewards_G: Tensor, answers: Sequence[Hashable | None], scale: float) -> Tensor:
    """r' of every response, float64; shape (G,).

    Args:
        rewards_G: rewards in [0, 1] of one prompt's responses, shape (G,); NaN where the grader gave none.
        answers: what each response answers, in the grader's normal form; equal values are the same answer.
            None, a response without an answer, is an answer like any other: two of them are the same, or
            spoiling the form would be a way to be unique.
        scale: λ ≥ 0; at 0 the rewards come back as they are, to the bit.

    Returns:
        r', NaN where the reward is NaN; such responses are not counted.
    """
    if scale == 0:
        return rewards_G
    rewards = [float(reward) for reward in rewards_G]
    counts = Counter(a for a, reward in zip(answers, rewards, strict=True) if not math.isnan(reward))
    lower = next_lower(rewards)
    shaped = [
        math.nan
        if math.isnan(reward)
        else lower[reward] + (reward - lower[reward]) * counts[answer] ** -scale
        for reward, answer in zip(rewards, answers, strict=True)
    ]
    return torch.tensor(shaped, dtype=torch.float64)


def next_lower(rewards: Sequence[float]) -> dict[float, float]:
    """r⁻ of each reward that occurs: the next lower one that does, 0 where there is none."""
    levels = sorted({reward for reward in rewards if not math.isnan(reward)})
    return dict(zip(levels, [0.0, *levels], strict=False))
