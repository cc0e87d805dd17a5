"""Decoder layers of Llama's form on the CPU, in fewer and larger operations than transformers' modules have::

    h = norm(x) w         x + O attention(turn(Q h), turn(K h), V h)
    h = norm(x) w'        x + D (silu(G h) * (U h))

Q, K and V, and G and U, are one product each. What is between products is computed in float32 and rounded
once; for the way back alone the products' inputs and outputs are kept, and the rest is computed again from
them. The modules are the slow reference, to whose values and gradients the tests hold this: they compute
wherever a pass has no context (``trainer.model.attention``), on other devices, and in float64, in which whole
steps are compared with other programs', while the modules' norms stay in float32.

Axis suffixes: _B rows, _L positions, _E a layer's width, _I its inner width, _H heads, _D a head's size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.model.attention import Context, Heads
from trainer.model.autograd import Saved
from trainer.model.packed_linear import NOTHING, Before, PackedLinear, applied
from trainer.model.rotation import Rotation

#: Layers of transformers that are of this form; others may have all of its names and compute something else.
FORMS = frozenset(f"{name}DecoderLayer" for name in ("Llama", "Mistral", "Qwen2", "Qwen3"))


def speed_up_layers(model: nn.Module) -> None:
    """Make ``model``'s layers compute in this way, wherever they can."""
    rotations = _Rotations()
    for module in model.modules():
        layer: Any = module
        if type(layer).__name__ in FORMS and layer.self_attn.config.hidden_act == "silu":
            layer.forward = DenseLayer(layer, rotations)


class DenseLayer:
    """What one layer's ``forward`` is replaced by."""

    def __init__(self, layer: Any, rotations: "_Rotations"):
        attention, mlp = layer.self_attn, layer.mlp
        self.modules = layer.forward
        self._rotations = rotations
        self._norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self._head_norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        self._number = attention.layer_idx
        self._scale = attention.scaling
        self._into_attention = _together((attention.q_proj, attention.k_proj, attention.v_proj))
        self._out_of_attention = _added(attention.o_proj)
        self._into_mlp = _together((mlp.gate_proj, mlp.up_proj))
        self._out_of_mlp = _added(mlp.down_proj, GATED)
        config = attention.config
        self._heads = Heads(config.num_attention_heads, config.num_key_value_heads, attention.head_dim)

    def __call__(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        context: Context | None = None,
        **options: Any,
    ) -> Tensor:
        """(B, L, E) to (B, L, E)."""
        on_cpu = hidden_states.device.type == "cpu"
        if context is None or not on_cpu or hidden_states.dtype == torch.float64:
            return self.modules(
                hidden_states, position_embeddings=position_embeddings, context=context, **options
            )
        rotation = self._rotations.of(*position_embeddings)
        hidden, x = _norm(hidden_states, self._norms[0])
        qkv = self._normed_heads(self._into_attention(hidden))
        attended = context.attend_turned(self._number, qkv, self._heads, rotation, self._scale)
        hidden, x = _norm(self._out_of_attention(attended, x), self._norms[1])
        return self._out_of_mlp(self._into_mlp(hidden), x)

    def _normed_heads(self, qkv_BLE: Tensor) -> Tensor:
        if self._head_norms[0] is None:
            return qkv_BLE
        parts = qkv_BLE.unflatten(-1, (-1, self._heads.size)).split(self._heads.by_kind, dim=2)
        normed = [_norm(x, norm)[0] for x, norm in zip(parts, self._head_norms, strict=False)]
        return torch.cat([*normed, parts[2]], dim=2).flatten(2)


class _Rotations:
    """The rotation of the pass that goes on, which its layers share."""

    def __init__(self) -> None:
        self._last: Rotation | None = None

    def of(self, cos_BLD: Tensor, sin_BLD: Tensor) -> Rotation:
        last = self._last
        if last is None or last.source is not cos_BLD:
            self._last = last = Rotation(cos_BLD, sin_BLD)
        return last


def _together(layers: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """Of layers with the same input, their outputs side by side; those with adapters one by one."""
    if all(type(layer) is nn.Linear for layer in layers):
        return PackedLinear(*layers)
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def _added(layer: Any, before: Before = NOTHING) -> Callable[[Tensor, Tensor], Tensor]:
    """Of a layer, what it makes of a function of its input, added to a second argument."""
    if type(layer) is nn.Linear:
        return PackedLinear(layer, before=before)
    return lambda x, other: other + layer(applied(before, x))


def _norm(x: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Root-mean-square norm over the last axis, and ``x`` itself, to go on with."""
    if not torch.is_grad_enabled():
        return _normed(x, norm.weight, norm.variance_epsilon)[0], x
    return _Norm.apply(x, norm.weight, norm.variance_epsilon)  # type: ignore[return-value]


def _normed(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x r w, and r = (mean x^2 + epsilon)^-1/2."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = wide.square().mean(dim=-1, keepdim=True).add_(epsilon).rsqrt_()
    return (wide * scale).mul_(weight).to(x.dtype), scale


class _Norm(torch.autograd.Function):
    """y = x r w, and x, so that both gradients are added up in float32:

    dx = r (dy w - x r mean(dy w x r)) + dx',  dw = sum dy x r.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Saved, x: Tensor, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        normed, scale = _normed(x, weight, epsilon)
        ctx.save_for_backward(x, weight, scale)
        ctx.set_materialize_grads(False)
        return normed, x

    @staticmethod
    def backward(ctx: Saved, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        grad, grad_x = gradients
        if grad is None:
            return grad_x, None, None
        wide = grad.to(scale.dtype)
        straight = x * scale
        product = (wide * straight).flatten(0, -2)
        of_weight = product.sum(dim=0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        mean = (product @ weight.to(scale.dtype)).div_(-x.shape[-1]).view(scale.shape)
        of_x = (wide * weight).addcmul_(straight, mean).mul_(scale)
        if grad_x is not None:
            of_x.add_(grad_x)
        return of_x.to(x.dtype), of_weight, None


def _gated(gate_and_up_BLI: Tensor) -> Tensor:
    """silu(g) u, from both side by side; (..., 2 I) to (..., I)."""
    gate, up = gate_and_up_BLI.chunk(2, dim=-1)
    return nn.functional.silu(gate).mul_(up)


def _gated_backward(gate_and_up_BLI: Tensor, grad_BLI: Tensor) -> Tensor:
    gate, up = gate_and_up_BLI.chunk(2, dim=-1)
    found = torch.empty_like(gate_and_up_BLI)
    of_gate, of_up = found.chunk(2, dim=-1)
    torch.mul(nn.functional.silu(gate), grad_BLI, out=of_up)
    of_gate.copy_(torch.ops.aten.silu_backward(grad_BLI * up, gate))
    return found


GATED = Before(_gated, _gated_backward)
