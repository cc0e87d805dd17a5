"""The loss of direct preference optimization (Rafailov et al., arXiv 2305.18290, equation 7).

L = - log sigmoid(beta ((log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l)))), of the preferred
answer y_w and the other, y_l; log-probabilities are sums over an answer's tokens. What beta multiplies is the
implied reward of an answer.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Preferred:
    """Of pairs, (B,) each: the loss, and the implied rewards of both answers."""

    loss_B: Tensor
    reward_B: Tensor
    other_reward_B: Tensor


def preference_loss(logp_2B: Tensor, reference_2B: Tensor, beta: float) -> Preferred:
    """From sums of log-probabilities, nats, under the policy and the reference, (B, 2), preferred first."""
    reward_2B = beta * (logp_2B - reference_2B)
    reward_B, other_B = reward_2B.unbind(-1)
    return Preferred(-logsigmoid(reward_B - other_B), reward_B, other_B)
