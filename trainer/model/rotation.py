"""Rotary positions (Su et al., arXiv 2104.09864) in the two halves of a head, as Llama has them::

    turned = (x_1 cos - x_2 sin, x_2 cos + x_1 sin)

in float32 or better, for all heads of a layer at once. transformers does it in the model's precision.
"""

import torch
from torch import Tensor


class Rotation:
    """Of the positions of one forward pass, from what the model's rotary embedding gives: (B, L, D) each, the
    same in both halves of D."""

    def __init__(self, cos_BLD: Tensor, sin_BLD: Tensor):
        self.source = cos_BLD
        wide = torch.promote_types(cos_BLD.dtype, torch.float32)
        self._cos, sin = (x.to(wide)[:, :, None] for x in (cos_BLD, sin_BLD))
        self._sin = sin[..., : sin.shape[-1] // 2]

    def turn(self, x_BLHD: Tensor, heads: int) -> Tensor:
        """The first ``heads`` turned by the angles of each position, the others as they are; a new tensor."""
        return self._turned(x_BLHD, heads, -1.0)

    def turn_back(self, x_BLHD: Tensor, heads: int) -> Tensor:
        """Turned the other way, as are the gradients of what was turned; a new tensor."""
        return self._turned(x_BLHD, heads, 1.0)

    def _turned(self, x_BLHD: Tensor, heads: int, sign: float) -> Tensor:
        found = x_BLHD.new_empty(x_BLHD.shape, dtype=torch.promote_types(x_BLHD.dtype, self._cos.dtype))
        turned = found[:, :, :heads]
        torch.mul(x_BLHD[:, :, :heads], self._cos, out=turned)
        found[:, :, heads:] = x_BLHD[:, :, heads:]
        first, second = x_BLHD[:, :, :heads].chunk(2, dim=-1)
        turned_first, turned_second = turned.chunk(2, dim=-1)
        turned_first.addcmul_(second, self._sin, value=sign)
        turned_second.addcmul_(first, self._sin, value=-sign)
        return found
