"""Attention over sequences that lie end to end, without padding and without anything of queries x keys.

Each sequence of queries attends to its own sequence of keys: to all of it, to what is before it, or to the
last of that within a window. Two pairs of functions do so, forward and back, with the log-sum-exp of the
scores beside the output; given those of a larger whole, the way back is that of a part of it:

    FLASH  CUDA's flash attention for sequences of unequal lengths, in 16 bits, with native groups of heads
    PLAIN  products of blocks of queries, for any device and precision: what the other is tested against

``span_attention`` is the differentiable function of either. Axis suffixes: _T queries of all sequences,
_S keys of all sequences, _H query heads, _K key heads, _D head size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
import torch.nn.attention.varlen  # registers torch_attn::_varlen_attn
from torch import Tensor

from trainer.model.autograd import Saved

BLOCK_SCORES = 1 << 24
"""Scores of all heads that a block of PLAIN has at once."""
FLASH_HEAD_SIZE = 256
"""The largest that CUDA's kernels take."""


@dataclass(frozen=True)
class Spans:
    """Sequences by their lengths: queries, and the keys that those of the same number attend to."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    device: torch.device
    causal: bool = True
    """Queries and keys of a sequence are as many, and none attends to what comes after it."""
    window: int | None = None
    """Keys that a query attends to at most, itself among them; of causal sequences alone."""

    @cached_property
    def query_ends(self) -> Tensor:
        """Where sequences begin and end among all queries, int32; shape (N + 1,)."""
        return _ends(self.queries, self.device)

    @cached_property
    def key_ends(self) -> Tensor:
        """The same among all keys."""
        return _ends(self.keys, self.device)


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)


Forward = Callable[[Tensor, Tensor, Tensor, Spans, float], tuple[Tensor, Tensor]]
Backward = Callable[
    [Tensor, tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Spans, float], tuple[Tensor, Tensor, Tensor]
]


class Kernel(NamedTuple):
    """A way of computing it."""

    forward: Forward
    """Queries (T, H, D), keys and values (S, K, D), spans and scale to output (T, H, D) and log-sum-exp
    (H, T)."""
    backward: Backward
    """The output's gradient, these three, output, log-sum-exp, spans and scale to gradients of the three."""


def kernel_for(query: Tensor) -> Kernel:
    """The fastest that can compute on such queries."""
    narrow = query.dtype in (torch.bfloat16, torch.float16)
    size = query.shape[-1]
    if not (query.is_cuda and narrow and size % 8 == 0 and size <= FLASH_HEAD_SIZE):
        return PLAIN
    return FLASH if torch.cuda.get_device_capability(query.device) >= (8, 0) else PLAIN


def _seen(spans: Spans) -> list[int]:
    """The window as CUDA's kernels want it: keys before and behind a query's own, -1: all."""
    if not spans.causal:
        return [-1, -1]
    return [-1 if spans.window is None else spans.window - 1, 0]


def _flash(q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float) -> tuple[Tensor, Tensor]:
    out, lse, _ = torch.ops.torch_attn._varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        spans.query_ends,
        spans.key_ends,
        max(spans.queries),
        max(spans.keys),
        spans.causal and spans.window is None,
        scale,
        _seen(spans),
        q.shape[1] != k.shape[1],
    )
    return out, lse


def _flash_backward(
    grad: Tensor, qkv: tuple[Tensor, Tensor, Tensor], out: Tensor, lse: Tensor, spans: Spans, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (x.contiguous() for x in qkv)
    return torch.ops.torch_attn._varlen_attn_backward(
        grad.contiguous(),
        q,
        k,
        v,
        out.contiguous(),
        lse.contiguous(),
        spans.query_ends,
        spans.key_ends,
        max(spans.queries),
        max(spans.keys),
        spans.causal and spans.window is None,
        torch.zeros(2, dtype=torch.uint64, device=q.device),  # of dropout, of which there is none
        scale,
        _seen(spans),
    )


FLASH = Kernel(_flash, _flash_backward)


class _Block(NamedTuple):
    """Queries and the keys that any of them attends to, by their places, and who does not attend to whom."""

    query: slice
    key: slice
    hidden: Tensor | None


def _blocks(spans: Spans, heads: int) -> Iterator[_Block]:
    query_start = key_start = 0
    for queries, keys in zip(spans.queries, spans.keys, strict=True):
        seen = keys if spans.window is None else min(keys, 2 * spans.window)
        rows = max(1, BLOCK_SCORES // (heads * seen))
        if spans.window is not None:
            rows = min(rows, spans.window)
        for start in range(0, queries, rows):
            end, first, last, hidden = min(start + rows, queries), 0, keys, None
            if spans.causal:
                first = 0 if spans.window is None else max(0, start - spans.window + 1)
                last = end
                query = torch.arange(start, end, device=spans.device)[:, None]
                key = torch.arange(first, last, device=spans.device)
                hidden = key > query
                if spans.window is not None:
                    hidden |= key <= query - spans.window
            yield _Block(
                slice(query_start + start, query_start + end),
                slice(key_start + first, key_start + last),
                hidden,
            )
        query_start, key_start = query_start + queries, key_start + keys


def _grouped(x_THD: Tensor, heads: int) -> Tensor:
    """(T, H, D) to (K, H / K, T, D), in float32 or better."""
    wide = x_THD.to(torch.promote_types(x_THD.dtype, torch.float32))
    return wide.transpose(0, 1).unflatten(0, (heads, -1))


def _scores(q: Tensor, k: Tensor, block: _Block, scale: float) -> Tensor:
    """(K, H / K, T, S) of a block, -inf where a query does not attend."""
    heads = k.shape[1]
    scores = (_grouped(q[block.query], heads) * scale) @ _grouped(k[block.key], heads).transpose(-1, -2)
    return scores if block.hidden is None else scores.masked_fill_(block.hidden, -torch.inf)


def _plain(q: Tensor, k: Tensor, v: Tensor, spans: Spans, scale: float) -> tuple[Tensor, Tensor]:
    heads = k.shape[1]
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse_HT = q.new_empty(q.shape[1], q.shape[0], dtype=torch.promote_types(q.dtype, torch.float32))
    for block in _blocks(spans, q.shape[1]):
        scores = _scores(q, k, block, scale)
        lse = torch.logsumexp(scores, dim=-1)
        weights = scores.sub_(lse[..., None]).exp_()
        lse_HT[:, block.query] = lse.flatten(0, 1)
        of_block = weights @ _grouped(v[block.key], heads)
        out[block.query] = of_block.flatten(0, 1).transpose(0, 1).to(out.dtype)
    return out, lse_HT


def _plain_backward(
    grad: Tensor, qkv: tuple[Tensor, Tensor, Tensor], out: Tensor, lse: Tensor, spans: Spans, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = qkv
    heads, wide = k.shape[1], torch.promote_types(q.dtype, torch.float32)
    grad_q, grad_k, grad_v = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in qkv)
    for block in _blocks(spans, q.shape[1]):
        weights = (
            _scores(q, k, block, scale).sub_(lse[:, block.query].unflatten(0, (heads, -1))[..., None]).exp_()
        )
        g, o = (_grouped(x[block.query], heads) for x in (grad, out))
        # d softmax = p (dp - sum p dp), whose sum is the output's product with its gradient.
        of_weights = g @ _grouped(v[block.key], heads).transpose(-1, -2)
        of_scores = of_weights.sub_((g * o).sum(-1, keepdim=True)).mul_(weights).mul_(scale)
        grad_q[block.query] = (of_scores @ _grouped(k[block.key], heads)).flatten(0, 1).transpose(0, 1)
        queries = _grouped(q[block.query], heads)
        grad_k[block.key] += (of_scores.transpose(-1, -2) @ queries).sum(1).transpose(0, 1)
        grad_v[block.key] += (weights.transpose(-1, -2) @ g).sum(1).transpose(0, 1)
    return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype)


PLAIN = Kernel(_plain, _plain_backward)


def span_attention(
    query_THD: Tensor, key_SKD: Tensor, value_SKD: Tensor, spans: Spans, scale: float
) -> Tensor:
    """Attention output, shape (T, H, D); query heads may be a multiple of key heads."""
    return _SpanAttention.apply(query_THD, key_SKD, value_SKD, spans, scale)  # type: ignore[return-value]


class _SavedSpans(Saved, Protocol):
    spans: Spans
    scale: float


class _SpanAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _SavedSpans, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float
    ) -> Tensor:
        out, lse = kernel_for(query).forward(query, key, value, spans, scale)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.spans, ctx.scale = spans, scale
        return out

    @staticmethod
    def backward(ctx: _SavedSpans, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        kernel = kernel_for(query)
        found = kernel.backward(gradients[0], (query, key, value), out, lse, ctx.spans, ctx.scale)
        return (*found, None, None)
