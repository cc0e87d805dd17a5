"""Which tokens drive the entropy down: covariance of advantage and log-probability (arXiv 2505.22617).

Entropy falls with Cov(A, log pi); a few tokens carry most of it. Clip-Cov takes some of them out of the
gradient, KL-Cov holds them back with a penalty. All shapes (T,): T are the trained tokens of the batch.
"""

import torch
from torch import Tensor


def token_covariance(advantage_T: Tensor, logp_T: Tensor) -> Tensor:
    """(A_t - mean A)(log pi_t - mean log pi): each token's share of the covariance."""
    if not advantage_T.numel():
        return advantage_T
    return (advantage_T - advantage_T.mean()) * (logp_T - logp_T.mean())


def draw_within(
    covariance_T: Tensor, low: float, high: float, share: float, generator: torch.Generator
) -> Tensor:
    """Clip-Cov's choice: max(1, floor(share T)) tokens at random among low < cov < high; boolean (T,).

    All of them where the band holds fewer.
    """
    chosen_T = torch.zeros(covariance_T.shape, dtype=torch.bool)
    candidates = ((covariance_T > low) & (covariance_T < high)).nonzero().squeeze(-1).cpu()
    count = max(1, int(share * covariance_T.numel()))
    order = torch.randperm(len(candidates), generator=generator)
    chosen_T[candidates[order[:count]]] = True
    return chosen_T


def largest(covariance_T: Tensor, share: float) -> Tensor:
    """KL-Cov's choice: the max(1, floor(share T)) tokens of the largest covariance; boolean (T,)."""
    chosen_T = torch.zeros(covariance_T.shape, dtype=torch.bool)
    count = min(max(1, int(share * covariance_T.numel())), covariance_T.numel())
    chosen_T[torch.topk(covariance_T, count).indices.cpu()] = True
    return chosen_T
