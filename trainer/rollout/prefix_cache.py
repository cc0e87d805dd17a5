"""Keys and values of prompts and of what is being decoded behind them; a prompt's are kept once.

Rows (responses being sampled) of one prompt share its keys and values: their queries are put together and
multiplied with them as one matrix. Own keys and values of all rows lie side by side, since every row has
decoded equally many tokens. Scores of both parts go through one softmax. Scores are float32, as in training:
on the CPU all is, where bfloat16 products would round them and are hardly faster at these sizes; on CUDA
products of bfloat16 give float32.

Axis suffixes: _P prompts, _R rows of a prompt, _B all rows, _K key heads, _N query heads of a key head,
_L prompt tokens, _T decoded tokens, _D head size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.model.attention import Context, Trees
from trainer.model.products import sums_stay, wide_product

GROWTH = 64
"""Decoded tokens that room is made for at a time."""


class PrefixCache(Context):
    """The context (``trainer.model.attention.Context``) of decoding, one token a row and forward pass.

    Args:
        lengths: tokens of each prompt.
        owner: the prompt of each row, ascending.
    """

    def __init__(self, lengths: Sequence[int], owner: Sequence[int], device: torch.device):
        self._lengths = list(lengths)
        self._owner = list(owner)
        self._device = device
        length = torch.tensor(self._lengths)
        hidden = torch.arange(max(self._lengths)) >= length[:, None]
        self._hidden_PL = hidden.to(device) if bool(hidden.any()) else None
        self._prompt: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: dict[int, tuple[Tensor, Tensor]] = {}
        self._decoded = -1
        self._arrange()

    def _arrange(self) -> None:
        """Indices between rows and a (prompts, most rows of a prompt) rectangle; None where it is full."""
        counts = [self._owner.count(prompt) for prompt in range(len(self._lengths))]
        self._rectangle = (len(counts), max(counts))
        self._gather = self._place = None
        if min(counts) < max(counts):
            count = torch.tensor(counts)
            column = torch.arange(max(counts))
            inside = column < count[:, None]
            row = (count.cumsum(0) - count)[:, None] + column
            self._gather = torch.where(inside, row, 0).flatten().to(self._device)
            self._place = inside.flatten().nonzero().squeeze(-1).to(self._device)

    def prefill(self, trees: Trees) -> "_Prefill":
        """The context for computing the prompts, which are the trees of a packed row."""
        return _Prefill(self._prompt, trees, max(self._lengths))

    def advance(self) -> None:
        """A further token of each row follows."""
        self._decoded += 1
        if self._own and self._decoded == next(iter(self._own.values()))[0].shape[2]:
            for layer, (key, value) in self._own.items():
                self._own[layer] = (_longer(key), _longer(value))

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but ``rows`` (ascending)."""
        index = torch.tensor(rows, device=self._device)
        self._owner = [self._owner[row] for row in rows]
        for layer, (key, value) in self._own.items():
            self._own[layer] = (key.index_select(0, index), value.index_select(0, index))
        left = sorted(set(self._owner))
        if len(left) < len(self._lengths):
            prompts = torch.tensor(left, device=self._device)
            for layer, (key, value) in self._prompt.items():
                self._prompt[layer] = (key.index_select(0, prompts), value.index_select(0, prompts))
            self._lengths = [self._lengths[prompt] for prompt in left]
            self._owner = [left.index(prompt) for prompt in self._owner]
            if self._hidden_PL is not None:
                self._hidden_PL = self._hidden_PL.index_select(0, prompts)
        self._arrange()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Shapes as in ``Context``; one query a row."""
        rows, heads = key.shape[:2]
        prompt_key_PKLD, prompt_value_PKLD = self._prompt[layer]
        if layer not in self._own:
            room = (rows, heads, GROWTH, key.shape[-1])
            self._own[layer] = (prompt_key_PKLD.new_empty(room), prompt_key_PKLD.new_empty(room))
        own_key, own_value = self._own[layer]
        own_key[:, :, self._decoded] = key[:, :, 0]
        own_value[:, :, self._decoded] = value[:, :, 0]
        own_key_BKTD, own_value_BKTD = (x[:, :, : self._decoded + 1] for x in (own_key, own_value))
        query_BKND = query.to(own_key.dtype).view(rows, heads, -1, query.shape[-1])
        scaled_late = sums_stay(query_BKND)  # a narrow query would be rounded once more
        if not scaled_late:
            query_BKND = query_BKND * scale
        of_prompt = wide_product(self._to_prompts(query_BKND), prompt_key_PKLD.transpose(-1, -2))
        if self._hidden_PL is not None:
            of_prompt.masked_fill_(self._hidden_PL[:, None, None], -torch.inf)
        of_own = wide_product(query_BKND, own_key_BKTD.transpose(-1, -2))
        scores = torch.cat([self._to_rows(of_prompt), of_own], dim=-1)
        if scaled_late:
            scores *= scale
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        weights = weights.to(own_key.dtype)
        length = prompt_key_PKLD.shape[2]
        of_prompt = wide_product(self._to_prompts(weights[..., :length]), prompt_value_PKLD)
        output_BKND = self._to_rows(of_prompt) + wide_product(weights[..., length:], own_value_BKTD)
        return output_BKND.flatten(1, 2)[:, None].to(query.dtype)

    def _to_prompts(self, x_BKN: Tensor) -> Tensor:
        """(B, K, N, X) to (P, K, R N, X)."""
        if self._gather is not None:
            x_BKN = x_BKN.index_select(0, self._gather)
        return x_BKN.unflatten(0, self._rectangle).transpose(1, 2).flatten(2, 3)

    def _to_rows(self, x_PKRN: Tensor) -> Tensor:
        """(P, K, R N, X) back to (B, K, N, X)."""
        x = x_PKRN.unflatten(2, (self._rectangle[1], -1)).transpose(1, 2).flatten(0, 1)
        return x if self._place is None else x.index_select(0, self._place)


class _Prefill(Context):
    """Computes prompts as training does and keeps their keys and values, padded to the longest."""

    def __init__(self, kept: dict[int, tuple[Tensor, Tensor]], trees: Trees, longest: int):
        self._kept, self._trees, self._longest = kept, trees, longest

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self._kept[layer] = (self._stacked(key[0]), self._stacked(value[0]))
        return self._trees.attend(layer, query, key, value, scale)

    def _stacked(self, x_KLD: Tensor) -> Tensor:
        """(K, all prompt tokens, D) to (P, K, L, D)."""
        dtype = x_KLD.dtype if sums_stay(x_KLD) else torch.promote_types(x_KLD.dtype, torch.float32)
        heads, _, size = x_KLD.shape
        stacked = x_KLD.new_zeros((len(self._trees.trees), heads, self._longest, size), dtype=dtype)
        for number, tree in enumerate(self._trees.trees):
            stacked[number, :, : tree.prompt] = x_KLD[:, tree.start : tree.first]
        return stacked


def _longer(x_BKTD: Tensor) -> Tensor:
    rows, heads, length, size = x_BKTD.shape
    longer = x_BKTD.new_empty(rows, heads, length + max(GROWTH, length // 2), size)
    longer[:, :, :length] = x_BKTD
    return longer
