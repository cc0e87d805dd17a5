"""Entropy of a next-token distribution, in nats, over the full vocabulary."""

import torch
from torch import Tensor

NATS_TO_BITS = 1.4426950408889634


def token_entropy(logits_TV: Tensor) -> Tensor:
    """H = Z - sum softmax(z) z with Z = logsumexp z; shape (T, V) to (T,), float32 or better.

    Finite for logits of +-1e4 and for -inf (a token that cannot occur). Differentiable:
    dH/dz = -p (log p + H).
    """
    z = logits_TV if logits_TV.dtype is torch.float64 else logits_TV.float()
    z = z - z.detach().amax(dim=-1, keepdim=True)
    log_p = torch.log_softmax(z, dim=-1)
    # p log p tends to 0 with p; written as a product with a finite number, its gradient is finite too.
    safe = torch.where(log_p.isinf(), torch.zeros_like(log_p), log_p)
    return -(safe.exp() * safe * ~log_p.isinf()).sum(dim=-1)
