"""The loss of supervised training: the mean negative log-probability of what is learnt.

L = - 1/N sum_t log pi(o_t | o_<t), where t goes over the N learnt tokens of the whole optimizer batch, so
that a long answer counts by its length and micro-batches add up.
"""

from torch import Tensor


def supervised_loss(logp_T: Tensor, tokens: int) -> Tensor:
    """A part's share of the batch loss, from its (T,) log-probabilities and N; a scalar."""
    return -logp_T.sum() / tokens
