"""Attention over packed trees: a prompt once, and behind it responses that see the prompt and themselves.

A packed row (``trainer.model.packing``) is a sequence of trees. With P prompt tokens and responses of R_1,
R_2, ... tokens a tree needs P^2/2 + sum_i (P R_i + R_i^2/2) products of queries and keys; one mask over the
row would compute all (P + sum_i R_i)^2 of them and of its neighbours. Here each tree has three parts::

    prompt     on the prompt      causal
    responses  on the prompt      all of it: one product for all responses together
    responses  on themselves      causal, a batch of responses

and a response's two parts are put together by their log-sum-exp: with out_a, lse_a and out_b, lse_b of the
parts, lse = log(e^lse_a + e^lse_b) and out = e^(lse_a - lse) out_a + e^(lse_b - lse) out_b. The backward
kernels need only ``out`` and ``lse`` of the whole, so each part's gradient is one call with these (as in
ring attention, arXiv 2310.01889). Nothing of the size queries x keys is kept.

transformers calls ``Context.attend`` in place of its own attention, under the name ``IMPLEMENTATION``, where
a forward pass is given a context; other calls go to its scaled-dot-product attention.
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

IMPLEMENTATION = "policysplit_tree"

ONE_RECTANGLE = 8192
"""Positions up to which the responses of a tree are padded to the longest, however unequal they are: more
calls of a kernel would cost more than the padding."""

CHANGES = ("softcap", "s_aux", "position_bias", "sliding_window")
"""Options by which models change what attention computes."""

_flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


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
    (wide,) = _widened(qkv_BLE)
    turned, values = wide.unflatten(-1, (-1, heads.size)).split((heads.queries + heads.keys, heads.keys), dim=2)
    query, key = rotation.turn(turned).split((heads.queries, heads.keys), dim=2)
    return query.transpose(1, 2), key.transpose(1, 2), values.transpose(1, 2)


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
        q, k, v = _widened(query, key, value)
        out, lse = _forward(q, k, v, trees, scale)
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.trees, ctx.scale = trees, scale
        return out

    @staticmethod
    def backward(ctx: _SavedTrees, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse = ctx.saved_tensors
        q, k, v, out, grad = _widened(query, key, value, output, gradients[0])
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        _backward(grad, (q, k, v, out, lse), found, ctx.trees, ctx.scale)
        return *(x.to(y.dtype) for x, y in zip(found, (query, key, value), strict=True)), None, None


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
        q, k, v = (x[0] for x in turned_heads(qkv_BLE, heads, rotation))
        out, lse = _forward(q, k, v, trees, scale)
        out_BLE = out.transpose(0, 1).flatten(1)[None].to(qkv_BLE.dtype)
        ctx.save_for_backward(qkv_BLE, out_BLE, lse)
        ctx.heads, ctx.rotation, ctx.trees, ctx.scale = heads, rotation, trees, scale
        return out_BLE

    @staticmethod
    def backward(ctx: _SavedTurned, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BLE, out_BLE, lse = ctx.saved_tensors
        heads = ctx.heads
        q, k, v = (x[0] for x in turned_heads(qkv_BLE, heads, ctx.rotation))
        out, grad = (
            x.unflatten(-1, (-1, heads.size))[0].transpose(0, 1) for x in _widened(out_BLE, gradients[0])
        )
        found_BLHD = q.new_empty(1, q.shape[1], sum(heads.by_kind), heads.size)
        found = [x[0].transpose(0, 1) for x in found_BLHD.split(heads.by_kind, dim=2)]
        _backward(grad, (q, k, v, out, lse), found, ctx.trees, ctx.scale)
        turned = found_BLHD[:, :, : -heads.keys]
        turned.copy_(ctx.rotation.turn_back(turned))
        return found_BLHD.flatten(2).to(qkv_BLE.dtype), None, None, None, None


def _forward(q: Tensor, k: Tensor, v: Tensor, trees: Sequence[Tree], scale: float) -> tuple[Tensor, Tensor]:
    """The three parts of each tree: output (H, L, D), strided as ``q`` is, and log-sum-exp (H, L)."""
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
    for tree in trees:
        prompt, response = slice(tree.start, tree.first), slice(tree.first, tree.end)
        of_prompt = _attend(*(x[None, :, prompt] for x in (q, k, v)), scale=scale)
        out[:, prompt], lse[:, prompt] = of_prompt[0][0], of_prompt[1][0]
        if tree.first == tree.end:
            continue
        own = _Rectangles(tree.responses, q.device)
        of_own = [_attend(*some, scale=scale) for some in own.gather(*(x[:, response] for x in (q, k, v)))]
        out_b, lse_b = map(own.scatter, zip(*of_own, strict=True))
        heads = len(k)
        out_a, lse_a = _flash(
            _fold(q[:, response], heads)[None], k[None, :, prompt], v[None, :, prompt], scale=scale
        )
        out_a, lse_a = out_a.reshape(out_b.shape), lse_a.reshape(lse_b.shape)
        whole = torch.logaddexp(lse_a, lse_b)
        lse[:, response] = whole
        out[:, response] = out_a.mul_((lse_a - whole).exp_()[..., None]).add_(
            out_b.mul_((lse_b - whole).exp_()[..., None])
        )
    return out, lse


def _backward(
    grad: Tensor, kept: Sequence[Tensor], found: Sequence[Tensor], trees: Sequence[Tree], scale: float
) -> None:
    """Write the gradients of queries, keys and values into ``found``, (H, L, D) each; ``kept`` are these
    three, output and log-sum-exp."""
    q, k, v, out, lse = kept
    grad_q, grad_k, grad_v = found
    for tree in trees:
        prompt, response = slice(tree.start, tree.first), slice(tree.first, tree.end)
        of_prompt = _attend_backward(*(x[None, :, prompt] for x in (grad, q, k, v, out, lse)), scale=scale)
        grad_q[:, prompt], grad_k[:, prompt], grad_v[:, prompt] = (x[0] for x in of_prompt)
        if tree.first == tree.end:
            continue
        own = _Rectangles(tree.responses, q.device)
        rectangles = own.gather(*(x[:, response] for x in (grad, q, k, v, out, lse)))
        own.clear_padding([some[0] for some in rectangles])
        each = [_attend_backward(*some, scale=scale) for some in rectangles]
        of_own = [own.scatter(x) for x in zip(*each, strict=True)]
        heads = len(k)
        grad_a, q_a, out_a, lse_a = (_fold(x[:, response], heads)[None] for x in (grad, q, out, lse))
        k_a, v_a = k[None, :, prompt], v[None, :, prompt]
        of_prompt = _flash_backward(grad_a, q_a, k_a, v_a, out_a, lse_a, 0.0, False, scale=scale)
        grad_q[:, response] = of_own[0].add_(of_prompt[0].reshape(of_own[0].shape))
        grad_k[:, response], grad_v[:, response] = of_own[1], of_own[2]
        grad_k[:, prompt] += of_prompt[1][0]
        grad_v[:, prompt] += of_prompt[2][0]


def _widened(*tensors: Tensor) -> list[Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def _fold(x: Tensor, heads: int) -> Tensor:
    """(H, T, ...) to (heads, H / heads * T, ...): query heads that share a key head become its queries."""
    return x.reshape(heads, -1, *x.shape[2:])


def _attend(*query_key_value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Causal attention of (B, H, L, D) on keys with as many or fewer heads; output and log-sum-exp."""
    q, k, v = query_key_value
    return _flash(q, _repeated(k, q.shape[1]), _repeated(v, q.shape[1]), 0.0, True, scale=scale)


def _attend_backward(*kept: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, from the output's, these three, output and log-sum-exp."""
    grad, q, k, v, out, lse = kept
    heads = k.shape[1]
    k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
    grad_q, grad_k, grad_v = _flash_backward(grad, q, k, v, out, lse, 0.0, True, scale=scale)
    return grad_q, _summed(grad_k, heads), _summed(grad_v, heads)


def _repeated(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[-3] == heads else x.repeat_interleave(heads // x.shape[-3], dim=-3)


def _summed(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[-3] == heads else x.unflatten(-3, (heads, -1)).sum(dim=-3)


class _Rectangles:
    """The response tokens of a tree as batches of responses, each padded to its longest, and back.

    One batch, unless padding would more than double many tokens: then responses of about one length go
    together, and memory stays linear in tokens where one is long beside short ones.
    """

    def __init__(self, responses: Sequence[int], device: torch.device):
        lengths = [length for length in responses if length]
        together = _of_about_one_length(lengths)
        self._rectangles = [_Rectangle(lengths, members, device) for members in together]
        self._order = None
        if len(together) > 1:
            of_response = torch.arange(sum(lengths)).split(lengths)
            self._order = torch.cat([of_response[i] for some in together for i in some]).argsort().to(device)

    def gather(self, *tensors: Tensor) -> list[list[Tensor]]:
        """By rectangle, (H, T, ...) of each tensor to (responses, H, longest, ...)."""
        return [[rectangle.gather(x) for x in tensors] for rectangle in self._rectangles]

    def scatter(self, parts: Sequence[Tensor]) -> Tensor:
        """(responses, H, longest, ...) of each rectangle back to (H, T, ...)."""
        flat = [rectangle.scatter(x) for rectangle, x in zip(self._rectangles, parts, strict=True)]
        return flat[0] if self._order is None else torch.cat(flat, dim=1).index_select(1, self._order)

    def clear_padding(self, parts: Sequence[Tensor]) -> None:
        """Zero (responses, H, longest, D) of each rectangle at padding positions."""
        for rectangle, x in zip(self._rectangles, parts, strict=True):
            rectangle.clear_padding(x)


def _of_about_one_length(lengths: Sequence[int]) -> list[list[int]]:
    """Responses, by number, that go into one rectangle: at most half of it is padding, or it is small."""
    if len(lengths) * max(lengths) <= max(ONE_RECTANGLE, 2 * sum(lengths)):
        return [list(range(len(lengths)))]
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not found or 2 * lengths[number] < lengths[found[-1][0]]:
            found.append([])
        found[-1].append(number)
    return found


class _Rectangle:
    """Some of a tree's responses, padded. A padding position repeats the first token: behind a response's own
    tokens, causality hides it from them."""

    def __init__(self, lengths: Sequence[int], members: Sequence[int], device: torch.device):
        length = torch.tensor(lengths)
        start = (length.cumsum(0) - length)[members]
        length = length[members]
        self._rows, self._longest = len(members), int(length.max())
        self._index = self._place = self._padding = None
        column = torch.arange(self._longest)
        inside = column < length[:, None]
        padded = not bool(inside.all())
        if padded or len(members) < len(lengths):
            self._index = torch.where(inside, start[:, None] + column, 0).flatten().to(device)
        if padded:
            self._place = inside.flatten().nonzero().squeeze(-1).to(device)
            self._padding = (~inside).to(device)

    def gather(self, x: Tensor) -> Tensor:
        if self._index is not None:
            x = x.index_select(1, self._index)
        return x.unflatten(1, (self._rows, self._longest)).transpose(0, 1)

    def scatter(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1).flatten(1, 2)
        return x if self._place is None else x.index_select(1, self._place)

    def clear_padding(self, x: Tensor) -> None:
        if self._padding is not None:
            x.masked_fill_(self._padding[:, None, :, None], 0.0)


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
