"""What the layers of a forward pass attend to: a context in place of a mask.

transformers calls ``Context.attend`` in place of its own attention, under the name ``IMPLEMENTATION``, where
a forward pass is given a context; other calls go to its scaled-dot-product attention. The context of training
is a packed row (``trainer.model.packing``) of trees: a prompt once, and behind it responses that see the
prompt and themselves (``trainer.model.trees``, on the CPU ``trainer.model.trees_on_cpu``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer.model.autograd import Saved
from trainer.model.rotation import Rotation
from trainer.model.trees import Tree, spanned_tree_attention
from trainer.model.trees_on_cpu import tree_backward, tree_forward

IMPLEMENTATION = "policysplit_tree"

CHANGES = ("softcap", "s_aux", "position_bias", "sliding_window")
"""Options by which models change what attention computes."""


class UnsupportedAttention(Exception):
    """A model's attention is another function than a context's."""


class Heads(NamedTuple):
    """Of a layer's attention."""

    queries: int
    keys: int
    size: int

    @property
    def by_kind(self) -> tuple[int, int, int]:
        """Heads of queries, keys and values, which lie side by side in this order."""
        return self.queries, self.keys, self.keys


class Context(Protocol):
    """What the layers of one forward pass attend to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attention of layer ``layer``: queries, keys and values (B, H, L, D) to outputs (B, L, H, D)."""
        ...

    def attend_turned(
        self, layer: int, qkv_BLE: Tensor, heads: Heads, rotation: Rotation, scale: float
    ) -> Tensor:
        """The same of queries and keys that are still to be turned, beside the values; to (B, L, H D)."""
        found = self.attend(layer, *turned_heads(qkv_BLE, heads, rotation), scale)
        return found.flatten(2).to(qkv_BLE.dtype)


@dataclass(frozen=True)
class Trees(Context):
    """A packed row that attends to itself: the context of training."""

    trees: tuple[Tree, ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Shapes as in ``Context``; B = 1."""
        return tree_attention(query[0], key[0], value[0], self.trees, scale).transpose(0, 1)[None]

    def attend_turned(
        self, layer: int, qkv_BLE: Tensor, heads: Heads, rotation: Rotation, scale: float
    ) -> Tensor:
        """Shapes as in ``Context``; B = 1, on the CPU. Less is kept for the way back than of turned heads."""
        return _TurnedTreeAttention.apply(  # type: ignore[return-value]
            qkv_BLE, heads, rotation, self.trees, scale
        )


def turned_heads(qkv_BLE: Tensor, heads: Heads, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys as ``rotation`` turns them, and values: (B, H, L, D) each, float32 or better."""
    query, key, value = _turned(qkv_BLE, heads, rotation).transpose(1, 2).split(heads.by_kind, dim=1)
    return query, key, value


def _turned(qkv_BLE: Tensor, heads: Heads, rotation: Rotation) -> Tensor:
    """The same side by side: (B, L, H, D)."""
    (wide,) = _widened(qkv_BLE)
    return rotation.turn(wide.unflatten(-1, (-1, heads.size)), heads.queries + heads.keys)


def context_inputs(ids_BL: Tensor, position_ids_BL: Tensor, context: Context) -> dict[str, object]:
    """Arguments for the forward pass of a model without its output layer."""
    # A mask of four axes is handed on as it is, so that none of the row's size is made; nobody reads it.
    unused = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids_BL.device)
    return {
        "input_ids": ids_BL,
        "position_ids": position_ids_BL,
        "attention_mask": unused,
        "use_cache": False,
        "context": context,
    }


def tree_attention(
    query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor, trees: Sequence[Tree], scale: float
) -> Tensor:
    """Attention output of a packed row; query heads may be a multiple of key heads; shape (H, L, D).

    By kernels of the CPU there, ``spanned_tree_attention`` elsewhere.
    """
    if query_HLD.device.type != "cpu":
        return spanned_tree_attention(query_HLD, key_HLD, value_HLD, trees, scale)
    return _TreeAttention.apply(query_HLD, key_HLD, value_HLD, tuple(trees), scale)  # type: ignore[return-value]


class _SavedTrees(Saved, Protocol):
    trees: tuple[Tree, ...]
    scale: float


class _TreeAttention(torch.autograd.Function):
    """The CPU kernels are about a third faster in float32 than in bfloat16, and lose less, so narrower inputs
    are widened for each call; what is kept stays narrow."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _SavedTrees, query: Tensor, key: Tensor, value: Tensor, trees: tuple[Tree, ...], scale: float
    ) -> Tensor:
        (qkv_LHD,) = _widened(torch.cat([query, key, value]).transpose(0, 1))
        out_LHD, lse_LH = tree_forward(qkv_LHD, len(query), trees, scale)
        out_LHD = out_LHD.to(query.dtype)
        ctx.save_for_backward(query, key, value, out_LHD, lse_LH)
        ctx.trees, ctx.scale = trees, scale
        return out_LHD.transpose(0, 1)

    @staticmethod
    def backward(ctx: _SavedTrees, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out_LHD, lse_LH = ctx.saved_tensors
        qkv_LHD = torch.cat([query, key, value]).transpose(0, 1)
        grad, qkv, out = _widened(gradients[0].transpose(0, 1), qkv_LHD, out_LHD)
        found_LHD = tree_backward(grad, qkv, out, lse_LH, ctx.trees, ctx.scale)
        found = found_LHD.transpose(0, 1).to(query.dtype).split([len(query), len(key), len(value)])
        return *found, None, None


class _SavedTurned(_SavedTrees, Protocol):
    heads: Heads
    rotation: Rotation


class _TurnedTreeAttention(torch.autograd.Function):
    """The same of queries and keys before they are turned: that is done again on the way back."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _SavedTurned,
        qkv_BLE: Tensor,
        heads: Heads,
        rotation: Rotation,
        trees: tuple[Tree, ...],
        scale: float,
    ) -> Tensor:
        qkv_LHD = _turned(qkv_BLE, heads, rotation)[0]
        out_LHD, lse_LH = tree_forward(qkv_LHD, heads.queries, trees, scale)
        out_BLE = out_LHD.flatten(1)[None].to(qkv_BLE.dtype)
        ctx.save_for_backward(qkv_BLE, out_BLE, lse_LH)
        ctx.heads, ctx.rotation, ctx.trees, ctx.scale = heads, rotation, trees, scale
        return out_BLE

    @staticmethod
    def backward(ctx: _SavedTurned, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BLE, out_BLE, lse_LH = ctx.saved_tensors
        heads = ctx.heads
        qkv_LHD = _turned(qkv_BLE, heads, ctx.rotation)[0]
        out, grad = (x[0].unflatten(-1, (-1, heads.size)) for x in _widened(out_BLE, gradients[0]))
        found_BLHD = tree_backward(grad, qkv_LHD, out, lse_LH, ctx.trees, ctx.scale)[None]
        turned_back = ctx.rotation.turn_back(found_BLHD, heads.queries + heads.keys)
        return turned_back.flatten(2).to(qkv_BLE.dtype), None, None, None, None


def _widened(*tensors: Tensor) -> list[Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    context: Context | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers' layers call."""
    if context is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    if changed := [name for name in CHANGES if options.get(name) is not None]:
        raise UnsupportedAttention(f"{type(module).__name__} has {changed[0]}")
    layer: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return context.attend(layer, query, key, value, scale), None


@torch.no_grad()
def attends_by_context(decoder: nn.Module, layers: int) -> bool:
    """Whether a model's layers all ask the context, and ask for nothing beyond what a context can do."""
    seen: set[int] = set()

    class Watched(Trees):
        def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
            seen.add(layer)
            return super().attend(layer, query, key, value, scale)

    device = next(decoder.parameters()).device
    ids, positions = (torch.tensor([x], device=device) for x in ([0, 1, 2, 1], [0, 1, 2, 2]))
    try:
        decoder(**context_inputs(ids, positions, Watched((Tree(0, 2, (1, 1)),))))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # of another form, such as values that are narrower than keys
        return False
    return seen == set(range(layers))


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
