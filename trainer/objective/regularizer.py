"""The high-entropy mode's bonus (Policy Split, section 3.3, equations 2 and 3)."""

from typing import Literal

import torch
from torch import Tensor

ClipOrder = Literal["inside", "outside"]


def mode_regularizer(logp_own_T: Tensor, logp_other_T: Tensor, alpha: float) -> Tensor:
    """b_t = -alpha log pi_own(o_t) - (1 - alpha) log pi_other(o_t), per token, no gradient.

    On the own mode's samples its mean is H(own) + (1 - alpha) KL(own || other): an entropy preference and a
    term that pushes the modes apart. Shapes (T,).
    """
    return -(alpha * logp_own_T.detach() + (1.0 - alpha) * logp_other_T.detach())


def standardize(b_T: Tensor) -> Tensor:
    """z-score over all tokens given; zeros when they do not vary. Shape (T,)."""
    if b_T.numel() < 2:
        return torch.zeros_like(b_T)
    # Chosen on the device: to ask whether they vary would be to wait for it.
    z_T = (b_T - b_T.mean()) / (b_T.std() + 1e-6)
    return torch.where(b_T.min() == b_T.max(), torch.zeros_like(z_T), z_T)


def clamp_bonus(
    z_T: Tensor, advantage_T: Tensor, eta: float, kappa: float, clip_order: ClipOrder = "inside"
) -> Tensor:
    """The bonus, bounded by the size of the advantage so that kappa > 1 keeps the advantage's sign.

    ``inside``: clamp(eta z, +-|A|/kappa), as the authors' code has it; ``outside``: eta clamp(z,
    +-|A|/kappa), as the paper's equation 3 has it. The two differ by up to 1/eta in size. Shapes (T,).
    """
    bound_T = advantage_T.abs() / kappa
    if clip_order == "inside":
        return torch.clamp(eta * z_T, -bound_T, bound_T)
    return eta * torch.clamp(z_T, -bound_T, bound_T)


def policy_split_bonus(
    logp_own_T: Tensor,
    logp_other_T: Tensor,
    advantage_T: Tensor,
    *,
    eta: float,
    alpha: float,
    kappa: float,
    clip_order: ClipOrder = "inside",
) -> Tensor:
    """The per-token bonus that is added to the advantage of one mode's rows; all shapes (T,).

    The tokens are those of all responses of one prompt: the z-score is taken over them together.
    """
    z_T = standardize(mode_regularizer(logp_own_T, logp_other_T, alpha))
    return clamp_bonus(z_T, advantage_T.to(z_T.dtype), eta, kappa, clip_order)
