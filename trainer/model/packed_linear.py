"""Linear layers on the CPU with a copy of the weight in the form that multiplies fastest.

Plain ``linear`` lays a bfloat16 weight out anew for oneDNN at every call and multiplies float32 with MKL,
which is slow on some makers' processors: on an AMD EPYC, at 32 to 1,200 rows, the packed product took 0.7
to 0.95 of the time in bfloat16 and 0.45 to 0.75 in float32. Where the processor multiplies bfloat16 more
slowly than float32 (an Intel Xeon without AMX: 150 against 300 G/s), or has no instruction for it, a bfloat16
layer multiplies in float32 and rounds once.

Gradients are plain products, but float32 ones where MKL is slow: there one factor is packed for each, and
dropped (``benchmarks/NOTES.md``). The copy is made anew when the weight has other memory, or its version
counter says that it was changed; whoever writes into it behind autograd's back (fused optimizers do) must
increment the counter.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainer.model.autograd import Saved

PACKED_DTYPES = (torch.float32, torch.bfloat16)
LEAST_ROWS = 128
"""Rows of a gradient below which packing a factor costs more than it saves."""


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN's layout serves ``weight``; elsewhere plain products do."""
    return _can_pack(weight.device.type, weight.dtype)


@lru_cache
def _can_pack(device_type: str, dtype: torch.dtype) -> bool:
    if device_type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype in PACKED_DTYPES


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


def packed_product(
    x: Tensor, packed_weight: Tensor, bias: Tensor | None = None, plus: Tensor | None = None
) -> Tensor:
    """x W^T + bias + plus, rounded once, (..., D) to (..., N); without gradient."""
    if plus is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, plus, packed_weight, bias, "add")
    return torch.ops.mkldnn._linear_pointwise(x, packed_weight, bias, "none", [], "")


def pack_linear_layers(model: nn.Module) -> None:
    """Make ``model``'s linear layers multiply with packed weights, wherever that is possible."""
    for module in model.modules():
        if type(module) is nn.Linear and (can_pack(module.weight) or widens(module.weight)):
            module.forward = PackedLinear(module)  # pyright: ignore[reportAttributeAccessIssue]


class Before(NamedTuple):
    """A function without weights that is applied to a layer's input, and on the way back once more, so that
    its own input alone is kept."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    """The gradient of its input, from that and the gradient of its output."""


NOTHING = Before(lambda x: x, lambda x, grad: grad)


class PackedLinear:
    """The forward pass of one linear layer, or of several that have the same input and whose outputs are put
    side by side, with a copy of their weights as they are now; ``before`` it, a function of the input."""

    def __init__(self, *layers: nn.Linear, before: Before = NOTHING):
        self._layers = layers
        self._before = before
        self._copy: Tensor | None = None
        self._bias: Tensor | None = None
        self._made_of: list[tuple[int, int]] = []
        # Held, so that no later weight can come to lie at the same address.
        self._sources: list[Tensor] = []

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """x W^T + bias, and ``plus`` where it is given, of the product's shape; (..., D) to (..., all N)."""
        weights = [layer.weight for layer in self._layers]
        if not self._serves(x):
            inner = applied(self._before, x)
            outputs = [nn.functional.linear(inner, layer.weight, layer.bias) for layer in self._layers]
            product = side_by_side(outputs, dim=-1)
            return product if plus is None else product + plus
        wide = widens(weights[0])
        copy = self._packed(wide)
        if not torch.is_grad_enabled():
            product = _widened_product if wide else packed_product
            return product(self._before.forward(x), copy, self._bias, plus)
        function = _WidenedLinear if wide else _PackedLinear
        biases = [layer.bias for layer in self._layers]
        return function.apply(x, plus, copy, self._bias, self._before, *weights, *biases)  # type: ignore[return-value]

    def _serves(self, x: Tensor) -> bool:
        weight = self._layers[0].weight
        return x.dtype == weight.dtype and (can_pack(weight) or widens(weight))

    def _packed(self, wide: bool) -> Tensor:
        tensors = self._trained()
        made_of = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._copy is None or self._made_of != made_of:
            weights = [layer.weight.detach() for layer in self._layers]
            biases = [layer.bias for layer in self._layers]
            with torch.inference_mode(False):  # the copy may serve a backward pass later
                whole = side_by_side(weights)
                self._copy = whole.float() if wide else packed(whole)
                found = [bias.detach() for bias in biases if bias is not None]
                self._bias = side_by_side(found) if len(found) == len(biases) else None
            self._made_of = made_of
            self._sources = [tensor.detach() for tensor in tensors]
        return self._copy

    def _trained(self) -> list[Tensor]:
        # Where a module has its parameters: to ask it by name takes as long as a small operation.
        tensors = [tensor for layer in self._layers for tensor in layer._parameters.values()]
        return [tensor for tensor in tensors if tensor is not None]


def applied(before: Before, x: Tensor) -> Tensor:
    """The function by itself, for layers that multiply in another way."""
    return x if before is NOTHING else _Before.apply(x, before)  # type: ignore[return-value]


def side_by_side(of_layers: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Weights, biases or outputs of several layers as those of one."""
    return of_layers[0] if len(of_layers) == 1 else torch.cat(list(of_layers), dim)


class _KeepsBefore(Saved, Protocol):
    before: Before


class _Before(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _KeepsBefore, x: Tensor, before: Before) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.before = before
        return before.forward(x)

    @staticmethod
    def backward(ctx: _KeepsBefore, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return ctx.before.backward(x, gradients[0]), None


class _PackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _KeepsBefore,
        x: Tensor,
        plus: Tensor | None,
        packed_weight: Tensor,
        bias: Tensor | None,
        before: Before,
        *trained: Tensor | None,
    ) -> Tensor:
        weights = [weight for weight in trained[: len(trained) // 2] if weight is not None]
        ctx.save_for_backward(x, *weights)
        ctx.before = before
        return packed_product(before.forward(x), packed_weight, bias, plus)

    @staticmethod
    def backward(ctx: _KeepsBefore, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        (grad,) = gradients
        inner = ctx.before.forward(x)
        of_inner, *others = _gradients(inner, weights, side_by_side(weights), grad, ctx.needs_input_grad)
        of_x = None if of_inner is None else ctx.before.backward(x, of_inner)
        return of_x, grad if ctx.needs_input_grad[1] else None, *others


def _widened_product(x: Tensor, weight_ND: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
    """As ``packed_product``, with a float32 weight and a bfloat16 result."""
    product = nn.functional.linear(x.float(), weight_ND, None if bias is None else bias.float())
    return (product if plus is None else product.add_(plus)).to(x.dtype)


class _WidenedLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _KeepsBefore,
        x: Tensor,
        plus: Tensor | None,
        wide_weight: Tensor,
        bias: Tensor | None,
        before: Before,
        *trained: Tensor | None,
    ) -> Tensor:
        weights = [weight for weight in trained[: len(trained) // 2] if weight is not None]
        ctx.save_for_backward(x, wide_weight, *weights)
        ctx.before = before
        return _widened_product(before.forward(x), wide_weight, bias, plus)

    @staticmethod
    def backward(ctx: _KeepsBefore, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, wide_weight, *weights = ctx.saved_tensors
        (grad,) = gradients
        inner = ctx.before.forward(x).float()
        wide = _gradients(inner, weights, wide_weight, grad.float(), ctx.needs_input_grad)
        of_inner, *others = (None if value is None else value.to(grad.dtype) for value in wide)
        of_x = None if of_inner is None else ctx.before.backward(x, of_inner)
        return of_x, grad if ctx.needs_input_grad[1] else None, *others


def _gradients(
    x: Tensor, weights: Sequence[Tensor], whole_ND: Tensor, grad: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Of the arguments of the two functions above but ``plus``; one dtype. ``whole_ND``: all ``weights`` as
    one."""
    grad_TN, x_TD = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
    of_x = input_product(grad_TN, whole_ND).view(x.shape) if needed[0] else None
    of_layers = grad_TN.split([len(weight) for weight in weights], dim=-1)
    number = len(weights)
    of_weights = [
        weight_product(part, x_TD) if asked else None
        for part, asked in zip(of_layers, needed[5 : 5 + number], strict=True)
    ]
    of_biases = [
        part.sum(dim=0) if asked else None
        for part, asked in zip(of_layers, needed[5 + number :], strict=True)
    ]
    return of_x, None, None, None, *of_weights, *of_biases


def input_product(grad_TN: Tensor, weight_ND: Tensor) -> Tensor:
    """The gradient of x in x W^T, (T, D)."""
    if _packs_gradients(grad_TN):
        return packed_product(grad_TN, packed(weight_ND.t()))
    return grad_TN @ weight_ND


def weight_product(grad_TN: Tensor, x_TD: Tensor) -> Tensor:
    """The gradient of W in x W^T, (N, D)."""
    if _packs_gradients(grad_TN):
        return packed_product(grad_TN.t().contiguous(), packed(x_TD.t()))
    return grad_TN.t() @ x_TD


def _packs_gradients(grad_TN: Tensor) -> bool:
    """Whether laying a factor out anew and multiplying then is faster than the plain product."""
    return (
        grad_TN.dtype == torch.float32
        and len(grad_TN) >= LEAST_ROWS
        and can_pack(grad_TN)
        and plain_float32_is_slow()
    )


@lru_cache
def plain_float32_is_slow() -> bool:
    """Whether plain float32 products are MKL's on another maker's processor, where they take twice the time
    of oneDNN's. By the processor and not by a trial, whose outcome could be another after a resume."""
    name = str(torch.cpu.get_capabilities().get("cpu_name"))
    return torch.backends.mkl.is_available() and "Intel" not in name
