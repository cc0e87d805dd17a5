"""Trees in a packed row, and attention over them by kernels for sequences that lie end to end.

A tree is a prompt and, behind it, the responses that see it and themselves. The three parts that
``trainer.model.attention`` explains are here three calls for all trees of a row, without padding::

    prompts    on themselves       causal sequences
    responses  on themselves       causal sequences
    responses  on their prompts    a tree's responses are one sequence of queries

Every sequence has tiles of its own, of which the last alone is not full, where a block mask over the row
would compute blocks of 128 by 128 and be compiled for it; nothing of the size queries x keys is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trainer.model.autograd import Saved
from trainer.model.spans import Kernel, Spans, kernel_for
from trainer.objective.transfer import placed


@dataclass(frozen=True)
class Tree:
    """Where a prompt and its responses lie in a packed row: ``start``, then the responses one by one."""

    start: int
    prompt: int
    responses: tuple[int, ...]

    @property
    def first(self) -> int:
        """Position of the first response token."""
        return self.start + self.prompt

    @property
    def end(self) -> int:
        return self.first + sum(self.responses)


def masked_tree_attention(
    query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor, trees: Sequence[Tree], scale: float
) -> Tensor:
    """Attention output of a packed row, tree by tree with a mask (L, L) each: the reference."""
    outputs = []
    for tree in trees:
        part = slice(tree.start, tree.end)
        mask = tree_mask(tree).to(query_HLD.device)
        output = scaled_dot_product_attention(
            query_HLD[None, :, part],
            key_HLD[None, :, part],
            value_HLD[None, :, part],
            attn_mask=mask,
            scale=scale,
            enable_gqa=query_HLD.shape[0] != key_HLD.shape[0],
        )
        outputs.append(output[0])
    return torch.cat(outputs, dim=1)


def tree_mask(tree: Tree) -> Tensor:
    """Who attends to whom in a tree: earlier positions of the same segment, and of the prompt; (L, L)."""
    segment = torch.repeat_interleave(
        torch.arange(1 + len(tree.responses)), torch.tensor([tree.prompt, *tree.responses])
    )
    same = segment[:, None] == segment[None, :]
    return (same | (segment == 0)[None, :]).tril()


def spanned_tree_attention(
    query_HLD: Tensor,
    key_HLD: Tensor,
    value_HLD: Tensor,
    trees: Sequence[Tree],
    scale: float,
    kernel: Kernel | None = None,
) -> Tensor:
    """The same in three calls of ``kernel``, by default the fastest of the device; shape (H, L, D)."""
    spanned = _spanned(tuple(trees), query_HLD.device)
    q, k, v = (x.transpose(0, 1) for x in (query_HLD, key_HLD, value_HLD))
    out = _SpannedTrees.apply(q, k, v, spanned, scale, kernel or kernel_for(query_HLD))
    return out.transpose(0, 1)  # type: ignore[union-attr]


@dataclass(frozen=True, eq=False)
class _Spanned:
    """The parts of all trees of a row; where their tokens lie, and their sequences."""

    prompt_L: Tensor
    prompts: Spans
    response_L: Tensor
    """Of no length where there are no responses."""
    responses: Spans
    shared_L: Tensor
    """The prompts that have responses."""
    across: Spans
    """Responses to their prompts."""


@lru_cache(maxsize=4)  # by layer: the device is told once a micro-batch where sequences are
def _spanned(trees: tuple[Tree, ...], device: torch.device) -> _Spanned:
    def places(parts: Sequence[tuple[int, int]]) -> Tensor:
        ranges = [torch.arange(start, end) for start, end in parts]
        return placed(torch.cat([torch.zeros(0, dtype=torch.long), *ranges]), device)

    prompts = tuple(tree.prompt for tree in trees)
    responses = tuple(length for tree in trees for length in tree.responses if length)
    shared = [tree for tree in trees if tree.end > tree.first]
    return _Spanned(
        places([(tree.start, tree.first) for tree in trees]),
        Spans(prompts, prompts, device),
        places([(tree.first, tree.end) for tree in shared]),
        Spans(responses, responses, device),
        places([(tree.start, tree.first) for tree in shared]),
        Spans(
            tuple(tree.end - tree.first for tree in shared),
            tuple(tree.prompt for tree in shared),
            device,
            causal=False,
        ),
    )


class _SavedSpanned(Saved, Protocol):
    spanned: _Spanned
    scale: float
    kernel: Kernel


class _SpannedTrees(torch.autograd.Function):
    """Queries, keys and values (L, H, D) to outputs of the same shape."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _SavedSpanned, q: Tensor, k: Tensor, v: Tensor, spanned: _Spanned, scale: float, kernel: Kernel
    ) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse_HL = torch.empty(q.shape[1], q.shape[0], dtype=wide, device=q.device)
        prompt, response, shared = spanned.prompt_L, spanned.response_L, spanned.shared_L
        out[prompt], lse_HL[:, prompt] = kernel.forward(
            q[prompt], k[prompt], v[prompt], spanned.prompts, scale
        )
        if len(response):
            own = (q[response], k[response], v[response])
            out_b, lse_b = kernel.forward(*own, spanned.responses, scale)
            out_a, lse_a = kernel.forward(own[0], k[shared], v[shared], spanned.across, scale)
            whole = torch.logaddexp(lse_a, lse_b)
            share_a, share_b = ((lse - whole).exp_().t()[..., None] for lse in (lse_a, lse_b))
            out[response] = (out_a * share_a + out_b * share_b).to(out.dtype)
            lse_HL[:, response] = whole
        ctx.save_for_backward(q, k, v, out, lse_HL)
        ctx.spanned, ctx.scale, ctx.kernel = spanned, scale, kernel
        return out

    @staticmethod
    def backward(ctx: _SavedSpanned, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse_HL = ctx.saved_tensors
        grad, spanned, scale, back = gradients[0], ctx.spanned, ctx.scale, ctx.kernel.backward
        prompt, response, shared = spanned.prompt_L, spanned.response_L, spanned.shared_L
        # In float32, since a prompt's keys collect the gradients of two parts.
        wide = torch.promote_types(q.dtype, torch.float32)
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=wide, device=x.device) for x in (q, k, v))
        of_prompt = (q[prompt], k[prompt], v[prompt])
        grad_q[prompt], grad_k[prompt], grad_v[prompt] = (
            x.to(wide)
            for x in back(grad[prompt], of_prompt, out[prompt], lse_HL[:, prompt], spanned.prompts, scale)
        )
        if len(response):
            own = (q[response], k[response], v[response])
            whole = (out[response], lse_HL[:, response])
            of_own = back(grad[response], own, *whole, spanned.responses, scale)
            across = back(grad[response], (own[0], k[shared], v[shared]), *whole, spanned.across, scale)
            grad_q[response] = of_own[0].to(wide) + across[0]
            grad_k[response], grad_v[response] = of_own[1].to(wide), of_own[2].to(wide)
            grad_k[shared] += across[1]
            grad_v[shared] += across[2]
        return grad_q.to(q.dtype), grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None
