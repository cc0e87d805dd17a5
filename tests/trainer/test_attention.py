"""Tree attention: the parts and their merging against one mask, gradients included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.model.attention import tree_attention
from trainer.model.trees import Tree, masked_tree_attention
from trainer.model.trees_on_cpu import ONE_RECTANGLE, _of_about_one_length

SIZE = 8


def inputs(trees: list[Tree], heads: int, key_heads: int, dtype: torch.dtype, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    length = trees[-1].end
    shapes = [(heads, length, SIZE), (key_heads, length, SIZE), (key_heads, length, SIZE)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def laid_out(sizes: list[tuple[int, list[int]]]) -> list[Tree]:
    trees: list[Tree] = []
    for prompt, responses in sizes:
        trees.append(Tree(trees[-1].end if trees else 0, prompt, tuple(responses)))
    return trees


def outcome(function, tensors, trees, weights):
    query, key, value = tensors
    output = function(query, key, value, trees, SIZE**-0.5)
    return output, *torch.autograd.grad((output.double() * weights).sum(), tensors)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.integers(0, 5), min_size=0, max_size=4)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([(2, 2), (6, 2), (3, 1)]),
)
def test_parts_equal_one_mask(sizes, heads):
    """Empty, single, equal and unequal responses; query heads that share key heads; float64."""
    trees = laid_out(sizes)
    tensors = inputs(trees, heads[0], heads[1], torch.float64)
    weights = torch.randn(heads[0], trees[-1].end, SIZE, generator=torch.Generator().manual_seed(1)).double()
    fast = outcome(tree_attention, tensors, trees, weights)
    slow = outcome(masked_tree_attention, tensors, trees, weights)
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("lengths", [[40, 1, 3, 0, 2, 1, 19, 4], [1] * 9 + [40]], ids=["several", "two"])
def test_responses_of_very_unequal_lengths_go_into_several_rectangles(monkeypatch, lengths):
    """In float64, against one mask; at most half of what is computed is padding."""
    monkeypatch.setattr("trainer.model.trees_on_cpu.ONE_RECTANGLE", 0)
    trees = laid_out([(5, lengths), (3, [2, 2]), (1, lengths[::-1])])
    tensors = inputs(trees, 4, 2, torch.float64)
    weights = torch.randn(4, trees[-1].end, SIZE, generator=torch.Generator().manual_seed(1)).double()
    fast = outcome(tree_attention, tensors, trees, weights)
    slow = outcome(masked_tree_attention, tensors, trees, weights)
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20000), min_size=1, max_size=40))
def test_rectangles_hold_every_response_once_and_at_most_as_much_padding_as_tokens(lengths):
    found = _of_about_one_length(lengths, ONE_RECTANGLE)
    assert sorted(i for some in found for i in some) == list(range(len(lengths)))
    padded = sum(len(some) * max(lengths[i] for i in some) for some in found)
    assert padded <= max(ONE_RECTANGLE, 2 * sum(lengths))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_rounding_at_real_sizes(dtype, close):
    trees = laid_out([(200, [128, 90, 128, 1]), (40, [32] * 8)])
    tensors = inputs(trees, 9, 3, dtype)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    weights = torch.randn(9, trees[-1].end, SIZE, generator=torch.Generator().manual_seed(1)).double()
    fast = outcome(tree_attention, tensors, trees, weights)
    slow = outcome(masked_tree_attention, exact, trees, weights)
    for one, other in zip(fast, slow, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).abs().max() < close * other.abs().max()
