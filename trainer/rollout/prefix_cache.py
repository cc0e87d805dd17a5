"""Keys and values of prompts and of what is being decoded behind them; a prompt's are kept once.

Rows (responses being sampled) of one prompt share its keys and values: their queries, which lie side by side
for each key head, are multiplied with them as one matrix. Own keys and values of all rows lie side by side,
too, since every row has decoded equally many tokens. Scores of both parts go through one softmax. Scores are
float32, as in training: on the CPU all is, where bfloat16 products would round them and are hardly faster at
these sizes; on CUDA products of bfloat16 give float32.

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
        #: Added to scores: -inf behind a prompt's end.
        self._end_PL = (
            torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf).to(device) if hidden.any() else None
        )
        self._prompt: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: dict[int, tuple[Tensor, Tensor]] = {}
        self._decoded = -1
        self._arrange()

    def _arrange(self) -> None:
        """Indices between rows and a (prompts, most rows of a prompt) rectangle; None where it is full."""
        counts = [self._owner.count(prompt) for prompt in range(len(self._lengths))]
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
            self._own[layer] = (key.index_select(1, index), value.index_select(1, index))
        left = sorted(set(self._owner))
        if len(left) < len(self._lengths):
            prompts = torch.tensor(left, device=self._device)
            for layer, (key, value) in self._prompt.items():
                self._prompt[layer] = (key.index_select(1, prompts), value.index_select(1, prompts))
            self._lengths = [self._lengths[prompt] for prompt in left]
            self._owner = [left.index(prompt) for prompt in self._owner]
            if self._end_PL is not None:
                self._end_PL = self._end_PL.index_select(0, prompts)
        self._arrange()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Shapes as in ``Context``; one query a row."""
        rows, heads, _, size = key.shape
        prompt_key_KPLD, prompt_value_KPLD = self._prompt[layer]
        if layer not in self._own:
            room = (heads, rows, GROWTH, size)
            self._own[layer] = (prompt_key_KPLD.new_empty(room), prompt_key_KPLD.new_empty(room))
        for own, new in zip(self._own[layer], (key, value), strict=True):
            own[:, :, self._decoded] = new[:, :, 0].transpose(0, 1)
        own_key, own_value = (x[:, :, : self._decoded + 1].flatten(0, 1) for x in self._own[layer])
        query_KBND = own_key.new_empty(heads, rows, query.shape[1] // heads, size)
        query_KBND.copy_(query.view(rows, heads, -1, size).transpose(0, 1))
        of_prompt = self._of_prompts(query_KBND, prompt_key_KPLD.transpose(-1, -2), self._end_PL)
        of_own = wide_product(query_KBND.flatten(0, 1), own_key.transpose(-1, -2))
        # Scaled late: a narrow query would be rounded once more.
        scores = torch.cat([of_prompt, of_own.view(*query_KBND.shape[:3], -1)], dim=-1).mul_(scale)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        weights = weights.to(own_key.dtype)
        length = prompt_key_KPLD.shape[2]
        output_KBND = self._of_prompts(weights[..., :length], prompt_value_KPLD)
        output_KBND += wide_product(weights[..., length:].flatten(0, 1), own_value).view(output_KBND.shape)
        return output_KBND.transpose(0, 1).flatten(1, 2)[:, None].to(query.dtype)

    def _of_prompts(self, x_KBN: Tensor, of_prompts_KP: Tensor, plus_PL: Tensor | None = None) -> Tensor:
        """The product of each row with its prompt's matrix, (K, B, N, X), (K, P, X, Y) to (K, B, N, Y), and
        ``plus_PL``, (P, Y)."""
        if self._gather is not None:
            x_KBN = x_KBN.index_select(1, self._gather)
        heads, prompts = of_prompts_KP.shape[:2]
        flat = x_KBN.reshape(heads * prompts, -1, x_KBN.shape[-1])
        found = wide_product(flat, of_prompts_KP.flatten(0, 1))
        if plus_PL is not None:
            found.view(heads, prompts, -1, found.shape[-1]).add_(plus_PL[:, None])
        found = found.view(*x_KBN.shape[:3], -1)
        return found if self._place is None else found.index_select(1, self._place)


class _Prefill(Context):
    """Computes prompts as training does and keeps their keys and values, padded to the longest."""

    def __init__(self, kept: dict[int, tuple[Tensor, Tensor]], trees: Trees, longest: int):
        self._kept, self._trees, self._longest = kept, trees, longest

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self._kept[layer] = (self._stacked(key[0]), self._stacked(value[0]))
        return self._trees.attend(layer, query, key, value, scale)

    def _stacked(self, x_KLD: Tensor) -> Tensor:
        """(K, all prompt tokens, D) to (K, P, L, D)."""
        dtype = x_KLD.dtype if sums_stay(x_KLD) else torch.promote_types(x_KLD.dtype, torch.float32)
        heads, _, size = x_KLD.shape
        stacked = x_KLD.new_zeros((heads, len(self._trees.trees), self._longest, size), dtype=dtype)
        for number, tree in enumerate(self._trees.trees):
            stacked[:, number, : tree.prompt] = x_KLD[:, tree.start : tree.first]
        return stacked


def _longer(x_KBTD: Tensor) -> Tensor:
    heads, rows, length, size = x_KBTD.shape
    longer = x_KBTD.new_empty(heads, rows, length + max(GROWTH, length // 2), size)
    longer[:, :, :length] = x_KBTD
    return longer
