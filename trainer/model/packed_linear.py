"""Linear layers on the CPU with a copy of the weight in the form that multiplies fastest.

Plain ``linear`` lays a bfloat16 weight out anew for oneDNN at every call and multiplies float32 with MKL,
which is slow on some makers' processors: on an AMD EPYC, at 32 to 1,200 rows, the packed product took 0.7
to 0.95 of the time in bfloat16 and 0.45 to 0.75 in float32. Where the processor multiplies bfloat16 more
slowly than float32 (an Intel Xeon without AMX: 150 against 300 G/s), or has no instruction for it, a bfloat16
layer multiplies in float32 and rounds once.

Gradients are plain products. The copy is made anew when the weight has other memory, or its version counter
says that it was changed; whoever writes into it behind autograd's back (fused optimizers do) must increment
the counter.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from trainer.model.autograd import Saved

PACKED_DTYPES = (torch.float32, torch.bfloat16)


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN's layout serves ``weight``; elsewhere plain products do."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype in PACKED_DTYPES


def widens(weight: Tensor) -> bool:
    """Whether products with ``weight`` are computed in float32 and rounded once."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and widens_bfloat16()


@lru_cache
def widens_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 more slowly than float32: it has no instruction for it, or
    Intel's AVX-512 one, which has half the throughput of a float32 product, and no AMX."""
    found = torch.cpu.get_capabilities()
    if found.get("architecture") != "x86_64" or found.get("amx_bf16"):
        return False
    return not found.get("avx512_bf16") or "Intel" in str(found.get("cpu_name"))


def packed(weight_ND: Tensor) -> Tensor:
    """A copy of the weight in oneDNN's own layout."""
    return torch.ops.mkldnn._reorder_linear_weight(weight_ND.detach(), None)


def packed_product(x: Tensor, packed_weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias, (..., D) to (..., N); without gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, packed_weight, bias, "none", [], "")


def pack_linear_layers(model: nn.Module) -> None:
    """Make ``model``'s linear layers multiply with packed weights, wherever that is possible."""
    for module in model.modules():
        if type(module) is nn.Linear and (can_pack(module.weight) or widens(module.weight)):
            module.forward = _Forward(module)  # pyright: ignore[reportAttributeAccessIssue]


class _Forward:
    """The forward pass of one layer, with a copy of its weight as it is now."""

    def __init__(self, layer: nn.Linear):
        self._layer = layer
        self._copy: Tensor | None = None
        self._version = -1
        # Held, so that no later weight can come to lie at the same address.
        self._source: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self._layer.weight, self._layer.bias
        wide = widens(weight)
        if not (wide or can_pack(weight)) or x.dtype != weight.dtype:
            return nn.functional.linear(x, weight, bias)
        if self._copy is None or self._is_stale(weight):
            with torch.inference_mode(False):  # the copy may serve a backward pass later
                self._copy = weight.detach().float() if wide else packed(weight)
            self._version, self._source = weight._version, weight.detach()
        product = _widened_product if wide else packed_product
        if not torch.is_grad_enabled():
            return product(x, self._copy, bias)
        function = _WidenedLinear if wide else _PackedLinear
        return function.apply(x, weight, bias, self._copy)  # type: ignore[return-value]

    def _is_stale(self, weight: Tensor) -> bool:
        assert self._source is not None
        return self._version != weight._version or self._source.data_ptr() != weight.data_ptr()


class _PackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Saved, x: Tensor, weight: Tensor, bias: Tensor | None, packed_weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return packed_product(x, packed_weight, bias)

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _gradients(x, weight, gradients[0], ctx.needs_input_grad)


def _widened_product(x: Tensor, weight_ND: Tensor, bias: Tensor | None) -> Tensor:
    """As ``packed_product``, with a float32 weight and a bfloat16 result."""
    return nn.functional.linear(x.float(), weight_ND, None if bias is None else bias.float()).to(x.dtype)


class _WidenedLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Saved, x: Tensor, weight: Tensor, bias: Tensor | None, wide_weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, wide_weight)
        return _widened_product(x, wide_weight, bias)

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, wide_weight = ctx.saved_tensors
        (grad,) = gradients
        wide = _gradients(x.float(), wide_weight, grad.float(), ctx.needs_input_grad)
        return tuple(None if value is None else value.to(grad.dtype) for value in wide)


def _gradients(
    x: Tensor, weight_ND: Tensor, grad: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Of the input, the weight and the bias, where needed; one dtype."""
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad @ weight_ND if needed[0] else None,
        rows.t() @ x.reshape(-1, x.shape[-1]) if needed[1] else None,
        rows.sum(dim=0) if needed[2] else None,
        None,
    )
