"""Attention over packed trees by kernels of the CPU.

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

Rows are positions, as they come out of a layer's products, and the kernels read them where they lie.

Axis suffixes: _L positions of the row, _T of a tree's responses, _R responses, _N their longest, _H heads (of
queries, or of queries, keys and values, which lie side by side in this order), _K key heads, _D head size.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from trainer.model.trees import Tree

ONE_RECTANGLE = 8192
"""Positions up to which the responses of a tree are padded to the longest, however unequal they are: more
calls of a kernel would cost more than the padding."""

_flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def tree_forward(qkv_LHD: Tensor, queries: int, trees: Sequence[Tree], scale: float) -> tuple[Tensor, Tensor]:
    """Output (L, H, D) and log-sum-exp (L, H) of the ``queries`` query heads, without gradient."""
    out_LHD = qkv_LHD.new_empty(len(qkv_LHD), queries, qkv_LHD.shape[-1])
    lse_LH = qkv_LHD.new_empty(len(qkv_LHD), queries)
    for tree in trees:
        prompt, response = slice(tree.start, tree.first), slice(tree.first, tree.end)
        of_prompt = _causal(qkv_LHD[None, prompt], queries, scale)
        out_LHD[prompt], lse_LH[prompt] = of_prompt[0][0], of_prompt[1][0]
        if tree.first == tree.end:
            continue
        own = _rectangles(tree.responses, ONE_RECTANGLE)
        each = [_causal(rectangle, queries, scale) for rectangle in own.gather(qkv_LHD[response])]
        out_b, lse_b = map(own.scatter, zip(*each, strict=True))
        query, key, value = _on_prompt(qkv_LHD, queries, prompt, response)
        out_a, lse_a = (_by_position(x) for x in _flash(query, key, value, scale=scale))
        lse_b = lse_b.unflatten(1, lse_a.shape[1:])
        whole = lse_LH[response].unflatten(1, lse_a.shape[1:])
        torch.logaddexp(lse_a, lse_b, out=whole)
        out_b = out_b.unflatten(1, lse_a.shape[1:]).mul_(lse_b.sub(whole).exp_()[..., None])
        share_a = lse_a.sub(whole).exp_()[..., None]
        torch.addcmul(out_b, out_a, share_a, out=out_LHD[response].unflatten(1, lse_a.shape[1:]))
    return out_LHD, lse_LH


def tree_backward(
    grad_LHD: Tensor,
    qkv_LHD: Tensor,
    out_LHD: Tensor,
    lse_LH: Tensor,
    trees: Sequence[Tree],
    scale: float,
) -> Tensor:
    """The gradient of ``qkv_LHD`` from the output's, the output and its log-sum-exp."""
    queries = out_LHD.shape[1]
    keys = (qkv_LHD.shape[1] - queries) // 2
    found_LHD = torch.empty_like(qkv_LHD)
    of_query, of_key, of_value = found_LHD.split([queries, keys, keys], dim=1)
    for tree in trees:
        prompt, response = slice(tree.start, tree.first), slice(tree.first, tree.end)
        kept = [x[None, prompt] for x in (grad_LHD, qkv_LHD, out_LHD, lse_LH)]
        for found, x in zip((of_query, of_key, of_value), _causal_backward(*kept, scale=scale), strict=True):
            found[prompt] = x[0]
        if tree.first == tree.end:
            continue
        own = _rectangles(tree.responses, ONE_RECTANGLE)
        rectangles = list(
            zip(*(own.gather(x[response]) for x in (grad_LHD, qkv_LHD, out_LHD, lse_LH)), strict=True)
        )
        own.clear_padding([kept[0] for kept in rectangles])
        each = [_causal_backward(*kept, scale=scale) for kept in rectangles]
        own_query, own_key, own_value = map(own.scatter, zip(*each, strict=True))
        of_key[response], of_value[response] = own_key, own_value
        query, key, value = _on_prompt(qkv_LHD, queries, prompt, response)
        grad, out, lse = (_by_group(x[response], keys) for x in (grad_LHD, out_LHD, lse_LH))
        of_prompt = _flash_backward(grad, query, key, value, out, lse, 0.0, False, scale=scale)
        by_position = _by_position(of_prompt[0])
        grouped = by_position.shape[1:3]
        torch.add(own_query.unflatten(1, grouped), by_position, out=of_query[response].unflatten(1, grouped))
        of_key[prompt] += of_prompt[1].sum(dim=0).transpose(0, 1)
        of_value[prompt] += of_prompt[2].sum(dim=0).transpose(0, 1)
    return found_LHD


def _on_prompt(
    qkv_LHD: Tensor, queries: int, prompt: slice, response: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of responses by group, (H / K, K, T, D), and the prompt's keys and values, (H / K, K, P, D), of
    which the groups have no copies."""
    keys = (qkv_LHD.shape[1] - queries) // 2
    query = _by_group(qkv_LHD[response, :queries], keys)
    key, value = (
        x.transpose(0, 1).expand(len(query), -1, -1, -1) for x in qkv_LHD[prompt, queries:].split(keys, dim=1)
    )
    return query, key, value


def _by_group(x_LH: Tensor, keys: int) -> Tensor:
    """(L, H, ...) to (H / K, K, L, ...): query heads that share a key head are in different groups."""
    return x_LH.unflatten(1, (keys, -1)).movedim((0, 2), (2, 0))


def _by_position(x: Tensor) -> Tensor:
    """(H / K, K, L, ...) back to (L, K, H / K, ...)."""
    return x.movedim((0, 2), (2, 0))


def _causal(qkv_RNHD: Tensor, queries: int, scale: float) -> tuple[Tensor, Tensor]:
    """Causal attention of each of R sequences; output (R, N, H, D) and log-sum-exp (R, N, H)."""
    out, lse = _flash(*_per_query(qkv_RNHD, queries), 0.0, True, scale=scale)
    return out.transpose(1, 2), lse.transpose(1, 2)


def _causal_backward(
    grad_RNHD: Tensor, qkv_RNHD: Tensor, out_RNHD: Tensor, lse_RNH: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, (R, N, heads, D) each."""
    queries = out_RNHD.shape[2]
    query, key, value = _per_query(qkv_RNHD, queries)
    grad, out, lse = (x.transpose(1, 2) for x in (grad_RNHD, out_RNHD, lse_RNH))
    found = _flash_backward(grad, query, key, value, out, lse, 0.0, True, scale=scale)
    of_query, of_key, of_value = (x.transpose(1, 2) for x in found)
    keys = (qkv_RNHD.shape[2] - queries) // 2
    if keys != queries:
        of_key, of_value = (x.unflatten(2, (keys, -1)).sum(dim=3) for x in (of_key, of_value))
    return of_query, of_key, of_value


def _per_query(qkv_RNHD: Tensor, queries: int) -> list[Tensor]:
    """Queries, keys and values, (R, H, N, D) each: keys and values once for each query head."""
    keys = (qkv_RNHD.shape[2] - queries) // 2
    query, key, value = (x.transpose(1, 2) for x in qkv_RNHD.split([queries, keys, keys], dim=2))
    if keys == queries:
        return [query, key, value]
    return [query, *(x.repeat_interleave(queries // keys, dim=1) for x in (key, value))]


@lru_cache(maxsize=256)
def _rectangles(responses: tuple[int, ...], padded: int) -> "_Rectangles":
    """Every layer of a pass asks for those of its trees, there and back."""
    return _Rectangles(responses, padded)


class _Rectangles:
    """The response tokens of a tree as batches of responses, each padded to its longest, and back.

    One batch, unless padding would more than double many tokens: then responses of about one length go
    together, and memory stays linear in tokens where one is long beside short ones.
    """

    def __init__(self, responses: Sequence[int], padded: int):
        lengths = [length for length in responses if length]
        together = _of_about_one_length(lengths, padded)
        self._rectangles = [_Rectangle(lengths, members) for members in together]
        self._order = None
        if len(together) > 1:
            of_response = torch.arange(sum(lengths)).split(lengths)
            self._order = torch.cat([of_response[i] for some in together for i in some]).argsort()

    def gather(self, x: Tensor) -> list[Tensor]:
        """By rectangle, (T, ...) to (responses, longest, ...)."""
        return [rectangle.gather(x) for rectangle in self._rectangles]

    def scatter(self, parts: Sequence[Tensor]) -> Tensor:
        """(responses, longest, ...) of each rectangle back to (T, ...)."""
        flat = [rectangle.scatter(x) for rectangle, x in zip(self._rectangles, parts, strict=True)]
        return flat[0] if self._order is None else torch.cat(flat).index_select(0, self._order)

    def clear_padding(self, parts: Sequence[Tensor]) -> None:
        """Zero (responses, longest, H, D) of each rectangle at padding positions."""
        for rectangle, x in zip(self._rectangles, parts, strict=True):
            rectangle.clear_padding(x)


def _of_about_one_length(lengths: Sequence[int], padded: int) -> list[list[int]]:
    """Responses, by number, that go into one rectangle: at most half of it is padding, or all have at most
    ``padded`` positions."""
    if len(lengths) * max(lengths) <= max(padded, 2 * sum(lengths)):
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

    def __init__(self, lengths: Sequence[int], members: Sequence[int]):
        length = torch.tensor(lengths)
        start = (length.cumsum(0) - length)[members]
        length = length[members]
        self._rows, self._longest = len(members), int(length.max())
        self._index = self._place = self._padding = None
        column = torch.arange(self._longest)
        inside = column < length[:, None]
        padded = not bool(inside.all())
        if padded or len(members) < len(lengths):
            self._index = torch.where(inside, start[:, None] + column, 0).flatten()
        if padded:
            self._place = inside.flatten().nonzero().squeeze(-1)
            self._padding = ~inside

    def gather(self, x: Tensor) -> Tensor:
        if self._index is not None:
            x = x.index_select(0, self._index)
        return x.unflatten(0, (self._rows, self._longest))

    def scatter(self, x: Tensor) -> Tensor:
        x = x.flatten(0, 1)
        return x if self._place is None else x.index_select(0, self._place)

    def clear_padding(self, x: Tensor) -> None:
        if self._padding is not None:
            x.masked_fill_(self._padding[..., None, None], 0.0)
