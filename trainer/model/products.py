"""Products of narrow numbers whose sums stay in float32, where the device has such products.

A bfloat16 product sums in float32 and then rounds to 8 bits. CUDA can leave that last step out; CPUs widen
before they multiply where it matters (``trainer.model.packed_linear``): here theirs are the plain ones.
"""

import torch
from torch import Tensor


def sums_stay(x: Tensor) -> bool:
    """Whether products of such numbers can be had in float32."""
    return x.device.type != "cpu" and x.dtype.itemsize < 4


def wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, in float32 where the device can; shapes (..., M, K) and (..., K, N) of equal axes before."""
    if not sums_stay(a):
        return torch.bmm(a, b) if a.ndim == 3 else a @ b
    if a.ndim == 2:
        return torch.mm(a, b, out_dtype=torch.float32)
    found = torch.bmm(a.flatten(0, -3), b.flatten(0, -3), out_dtype=torch.float32)
    return found.unflatten(0, a.shape[:-2])


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, within the product where the device can; ``total`` (M, N) in float32 or better."""
    if not sums_stay(a):
        total += a @ b
    else:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
