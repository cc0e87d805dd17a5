"""Attention of sequences end to end: what other devices than the CPU compute with, against one mask.

Its parts in plain products run as they are. The calls of CUDA's kernels run with the operators' part for the
CPU written here from their documentation, in float64, so that shapes, ends, windows and the order of axes are
those of the real calls. On a GPU the kernels themselves are compared.
"""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.test_attention import SIZE, inputs, laid_out, outcome
from trainer.model import spans as module
from trainer.model.spans import FLASH, PLAIN, Kernel, Spans, kernel_for, span_attention
from trainer.model.trees import masked_tree_attention, spanned_tree_attention

TREES = st.lists(
    st.tuples(st.integers(1, 6), st.lists(st.integers(0, 5), min_size=0, max_size=4)), min_size=1, max_size=3
)
HEADS = st.sampled_from([(2, 2), (6, 2), (3, 1)])


def scores_of(q, k, query_ends, key_ends, scale, window):
    """By sequence: queries, keys, and scores (H, T, S) under the mask that the operators document."""
    group = q.shape[1] // k.shape[1]
    for n in range(len(query_ends) - 1):
        queries, keys = (slice(int(ends[n]), int(ends[n + 1])) for ends in (query_ends, key_ends))
        of_keys = k[keys].repeat_interleave(group, dim=1)
        scores = torch.einsum("thd,shd->hts", q[queries], of_keys) * scale
        before, behind = window
        # Aligned at the last query and the last key.
        distance = torch.arange(scores.shape[2]) - (
            torch.arange(scores.shape[1])[:, None] + scores.shape[2] - scores.shape[1]
        )
        seen = torch.ones_like(distance, dtype=torch.bool)
        if before >= 0:
            seen &= distance >= -before
        if behind >= 0:
            seen &= distance <= behind
        yield queries, keys, scores.masked_fill(~seen, -torch.inf)


@pytest.fixture(scope="module")
def on_the_cpu() -> Iterator[None]:
    """The operators that FLASH calls, for tensors of the CPU."""

    def forward(
        q,
        k,
        v,
        query_ends,
        key_ends,
        max_q,
        max_k,
        is_causal=False,
        scale=None,
        window_size=None,
        enable_gqa=False,
    ):
        assert query_ends.dtype == key_ends.dtype == torch.int32
        assert max_q == int(query_ends.diff().max()) and max_k == int(key_ends.diff().max())
        assert is_causal == (window_size == [-1, 0]) and enable_gqa == (q.shape[1] != k.shape[1])
        assert q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
        out, lse = torch.empty_like(q), q.new_empty(q.shape[1], q.shape[0])
        for queries, keys, scores in scores_of(q, k, query_ends, key_ends, scale, window_size):
            of_values = v[keys].repeat_interleave(q.shape[1] // k.shape[1], dim=1)
            out[queries] = torch.einsum("hts,shd->thd", scores.softmax(-1), of_values)
            lse[:, queries] = scores.logsumexp(-1)
        return out, lse, torch.zeros(2, dtype=torch.uint64)

    def backward(
        grad,
        q,
        k,
        v,
        out,
        lse,
        query_ends,
        key_ends,
        max_q,
        max_k,
        is_causal,
        rng_state,
        scale=None,
        window_size=None,
    ):
        assert lse.shape == (q.shape[1], q.shape[0]) and rng_state.dtype == torch.uint64
        grads = [torch.zeros_like(x) for x in (q, k, v)]
        group = q.shape[1] // k.shape[1]
        for queries, keys, scores in scores_of(q, k, query_ends, key_ends, scale, window_size):
            p = (scores - lse[:, queries, None]).exp()
            of_keys, of_values = (x[keys].repeat_interleave(group, dim=1) for x in (k, v))
            dp = torch.einsum("thd,shd->hts", grad[queries], of_values)
            delta = (grad[queries] * out[queries]).sum(-1).t()
            ds = p * (dp - delta[..., None]) * scale
            grads[0][queries] = torch.einsum("hts,shd->thd", ds, of_keys)
            for number, wide in (
                (1, torch.einsum("hts,thd->shd", ds, q[queries])),
                (2, torch.einsum("hts,thd->shd", p, grad[queries])),
            ):
                grads[number][keys] += wide.unflatten(1, (-1, group)).sum(2)
        return tuple(grads)

    with torch.library._scoped_library("torch_attn", "FRAGMENT") as library:
        for name, function in (("_varlen_attn", forward), ("_varlen_attn_backward", backward)):
            torch.library.register_kernel(f"torch_attn::{name}", "cpu", function, lib=library)
        yield


@pytest.mark.parametrize("kernel", [PLAIN, FLASH], ids=["plain", "flash"])
@settings(max_examples=40, deadline=None)
@given(sizes=TREES, heads=HEADS, scores=st.sampled_from([1, 20, 1 << 24]))
def test_trees_in_three_calls_equal_one_mask(on_the_cpu, kernel: Kernel, sizes, heads, scores: int):
    """Forward and backward in float64, in blocks of one query and of many."""
    trees = laid_out(sizes)
    tensors = inputs(trees, heads[0], heads[1], torch.float64)
    weights = torch.randn(heads[0], trees[-1].end, SIZE, generator=torch.Generator().manual_seed(1)).double()
    before, module.BLOCK_SCORES = module.BLOCK_SCORES, scores
    try:
        fast = outcome(partial(spanned_tree_attention, kernel=kernel), tensors, trees, weights)
    finally:
        module.BLOCK_SCORES = before
    slow = outcome(masked_tree_attention, tensors, trees, weights)
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", [PLAIN, FLASH], ids=["plain", "flash"])
@pytest.mark.parametrize("window", [None, 1, 7, 100])
def test_windows_equal_one_mask(on_the_cpu, monkeypatch, kernel: Kernel, window: int | None):
    """Sequences shorter and longer than a window, two queries' heads to one of keys."""
    lengths = (5, 1, 40, 7)
    monkeypatch.setattr(module, "kernel_for", lambda query: kernel)
    monkeypatch.setattr(module, "BLOCK_SCORES", 200)
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(lengths), heads, SIZE) for heads in (4, 2, 2)]
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    fast = span_attention(q, k, v, Spans(lengths, lengths, q.device, window=window), 0.3)
    slow = []
    for start, length in zip((0, 5, 6, 46), lengths, strict=True):
        part = slice(start, start + length)
        of_keys, of_values = (x[part].repeat_interleave(2, dim=1).transpose(0, 1) for x in (k, v))
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = (distance >= 0) & (distance < (window or length))
        slow.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[part].transpose(0, 1), of_keys, of_values, attn_mask=seen, scale=0.3
            ).transpose(0, 1)
        )
    weights = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        (fast, *torch.autograd.grad((fast * weights).sum(), (q, k, v))),
        (torch.cat(slow), *torch.autograd.grad((torch.cat(slow) * weights).sum(), (q, k, v))),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_products_of_narrow_numbers(dtype):
    """Against float64 from the same numbers: products and sums are in float32."""
    trees = laid_out([(200, [128, 90, 128, 1]), (40, [32] * 8)])
    tensors = inputs(trees, 9, 3, dtype)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    weights = torch.randn(9, trees[-1].end, SIZE, generator=torch.Generator().manual_seed(1)).double()
    fast = outcome(spanned_tree_attention, tensors, trees, weights)
    slow = outcome(masked_tree_attention, exact, trees, weights)
    close = {torch.float32: 2e-6, torch.bfloat16: 0.02}[dtype]
    for one, other in zip(fast, slow, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).abs().max() < close * other.abs().max()


def test_kernels_of_a_gpu_are_for_narrow_numbers_on_a_gpu():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert kernel_for(torch.zeros(1, 1, 64, dtype=dtype)) is PLAIN


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
@pytest.mark.parametrize("heads", [(4, 4), (8, 2)])
def test_kernels_of_a_gpu_equal_one_mask(heads):
    trees = laid_out([(200, [128, 90, 128, 1]), (40, [32] * 8), (300, [])])
    size = 64
    generator = torch.Generator().manual_seed(0)
    shapes = [(n, trees[-1].end, size) for n in (heads[0], heads[1], heads[1])]
    narrow = [torch.randn(shape, generator=generator).cuda().bfloat16().requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in narrow]
    assert kernel_for(narrow[0]) is FLASH
    weights = torch.randn(heads[0], trees[-1].end, size, generator=generator).double().cuda()
    fast = outcome(spanned_tree_attention, narrow, trees, weights)
    slow = outcome(masked_tree_attention, exact, trees, weights)
    for one, other in zip(fast, slow, strict=True):
        assert (one.double() - other).abs().max() < 0.02 * other.abs().max()
