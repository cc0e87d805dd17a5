"""The clipped objective and how token losses are added up (Policy Split, section 3.2; PPO clip)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.spec.algorithm import Aggregation

MAX_LOG_RATIO = 20.0


def importance_ratio(logp_T: Tensor, old_logp_T: Tensor) -> Tensor:
    """rho_t = exp(clamp(logp - old_logp, +-20)), shape (T,): finite however far the policies are apart."""
    return torch.exp(torch.clamp(logp_T - old_logp_T, -MAX_LOG_RATIO, MAX_LOG_RATIO))


@dataclass(frozen=True)
class TokenLoss:
    """Per-token losses, and where the clip was active; shapes (T,)."""

    loss_T: Tensor
    clipped_low_T: Tensor
    clipped_high_T: Tensor
    regularizer_T: Tensor | None = None
    """A further term that is averaged over the mode's tokens, whatever the aggregation of ``loss_T``."""


def clipped_token_loss(
    logp_T: Tensor,
    old_logp_T: Tensor,
    advantage_T: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    importance_T: Tensor | None = None,
) -> TokenLoss:
    """l_t = -omega_t min(rho_t A_t, clip(rho_t, 1 - clip_low, 1 + clip_high) A_t).

    rho_t = exp(clamp(logp - old_logp, +-20)), both under the row's prompt mode, so the rows of the other
    mode's responses start at rho = 1 too. ``importance_T`` (omega, no gradient) defaults to 1. Shapes (T,).
    """
    ratio_T = importance_ratio(logp_T, old_logp_T)
    return clipped_ratio_loss(
        ratio_T, advantage_T, clip_low=clip_low, clip_high=clip_high, importance_T=importance_T
    )


def clipped_ratio_loss(
    ratio_T: Tensor,
    advantage_T: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    importance_T: Tensor | None = None,
) -> TokenLoss:
    """l_t = -omega_t min(rho_t A_t, clip(rho_t, 1 - clip_low, 1 + clip_high) A_t) of given ratios (T,)."""
    clipped_T = torch.clamp(ratio_T, 1.0 - clip_low, 1.0 + clip_high)
    loss_T = -torch.minimum(ratio_T * advantage_T, clipped_T * advantage_T)
    if importance_T is not None:
        loss_T = loss_T * importance_T
    with torch.no_grad():
        low_T = (ratio_T < 1.0 - clip_low) & (advantage_T < 0)
        high_T = (ratio_T > 1.0 + clip_high) & (advantage_T > 0)
    return TokenLoss(loss_T, low_T, high_T)


@dataclass(frozen=True)
class BatchCounts:
    """Trained tokens and rows of one mode in the whole optimiser batch (every micro-batch and rank)."""

    tokens: int = 0
    rows: int = 0

    def __add__(self, other: "BatchCounts") -> "BatchCounts":
        return BatchCounts(self.tokens + other.tokens, self.rows + other.rows)


def token_weights(
    aggregation: Aggregation,
    mode_weight: float,
    counts: BatchCounts,
    weighted_tokens: float,
    length_T: Tensor,
    max_length: int = 1,
) -> Tensor:
    """The factor of each token's loss, so that the batch loss is a plain sum over its micro-batches.

    Args:
        aggregation: ``token_mean_per_mode`` w_M / N_M; ``token_mean`` w_M / sum_M w_M N_M;
            ``sequence_mean`` w_M / (R_M |o|); ``sequence_sum`` w_M / R_M (the paper's 1/G);
            ``constant_length`` w_M / (R_M L_max).
        mode_weight: w_M.
        counts: N_M and R_M of the row's mode.
        weighted_tokens: sum over modes of w_M N_M.
        length_T: length of the response that the token belongs to, shape (T,).
        max_length: L_max, the limit on responses.
    """
    ones_T = torch.ones_like(length_T, dtype=torch.float64)
    if aggregation == "token_mean_per_mode":
        return ones_T * (mode_weight / max(counts.tokens, 1))
    if aggregation == "token_mean":
        return ones_T * (mode_weight / max(weighted_tokens, 1e-12))
    per_row = mode_weight / max(counts.rows, 1)
    if aggregation == "sequence_sum":
        return ones_T * per_row
    if aggregation == "constant_length":
        return ones_T * (per_row / max_length)
    return per_row / length_T.clamp(min=1).to(torch.float64)
