"""Dr. GRPO (Liu et al., arXiv 2503.20783): GRPO without its two biases.

The advantage is not divided by the group's deviation, and a response's token losses are divided by the
response limit instead of by its own length (aggregation ``constant_length``), so the scale of the gradient
depends on ``max_response_tokens``.
"""

from torch import Tensor

from trainer.algorithms.base import Algorithm
from trainer.objective.advantage import centered_advantage


class DrGrpoAlgorithm(Algorithm):
    """A = r - mean r; 1/G sum_i 1/L_max sum_t."""

    def advantage(self, rewards_G: Tensor) -> Tensor:
        return centered_advantage(rewards_G)
