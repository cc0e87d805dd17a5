"""The model, one token a row at a time: what the built-in engine samples with."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.model.attention import Trees, context_inputs
from trainer.model.packing import pack
from trainer.model.policy import Policy
from trainer.rollout.prefix_cache import PrefixCache


class Decoder(Protocol):
    """Last hidden states of rows that grow by a token at a time; shape (B, D)."""

    def prefill(self) -> Tensor:
        """At the end of each row's prompt."""
        ...

    def step(self, token_B: Tensor) -> Tensor:
        """At the next token of each row."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        ...


class SharedPrefixDecoder(Decoder):
    """Every prompt is computed and kept once, for all of its rows."""

    def __init__(self, policy: Policy, prompts: Sequence[tuple[int, ...]], owner: Sequence[int]):
        self._policy, self._prompts = policy, prompts
        self._owner = torch.tensor(owner, device=policy.device)
        lengths = [len(prompt) for prompt in prompts]
        self._position_B = torch.tensor(lengths, device=policy.device)[self._owner]
        self._cache = PrefixCache(lengths, owner, policy.device)

    def prefill(self) -> Tensor:
        packed = pack(self._prompts, [[] for _ in self._prompts], self._policy.pad_id, "shared_prefix")
        assert packed.trees is not None
        inputs = packed.decoder_inputs(self._policy.device)
        inputs["context"] = self._cache.prefill(Trees(packed.trees))
        hidden_LD = self._policy.decoder(**inputs).last_hidden_state[0]
        last = torch.tensor([tree.first - 1 for tree in packed.trees], device=hidden_LD.device)
        return hidden_LD[last[self._owner]]

    def step(self, token_B: Tensor) -> Tensor:
        self._cache.advance()
        inputs = context_inputs(token_B[:, None], self._position_B[:, None], self._cache)
        self._position_B = self._position_B + 1
        return self._policy.decoder(**inputs).last_hidden_state[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        self._cache.keep(rows)
        self._position_B = self._position_B[list(rows)]


class PlainDecoder(Decoder):
    """transformers' own cache, a copy of the prompt's part a row: for models with attention of their own."""

    def __init__(self, policy: Policy, prompts: Sequence[tuple[int, ...]], owner: Sequence[int]):
        self._policy, self._prompts = policy, prompts
        self._owner = torch.tensor(owner, device=policy.device)
        self._cache = DynamicCache(config=policy.model.config)

    def prefill(self) -> Tensor:
        length = max(map(len, self._prompts))
        ids = torch.full((len(self._prompts), length), self._policy.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(self._prompts):  # left-padded
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        position = (mask.cumsum(-1) - 1).clamp(min=0).to(self._policy.device)
        self._mask = mask.to(self._policy.device)
        hidden = self._forward(ids.to(self._policy.device), position)
        # The one selection that all kinds of layers have.
        self._cache.reorder_cache(self._owner)  # pyright: ignore[reportArgumentType]
        self._mask, self._position = self._mask[self._owner], position[self._owner, -1] + 1
        return hidden[self._owner]

    def step(self, token_B: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(token_B), 1)], dim=1)
        hidden = self._forward(token_B[:, None], self._position[:, None])
        self._position = self._position + 1
        return hidden

    def keep(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self._mask.device)
        self._cache.reorder_cache(index)  # pyright: ignore[reportArgumentType]
        self._mask, self._position = self._mask[index], self._position[index]

    def _forward(self, ids_BL: Tensor, position_BL: Tensor) -> Tensor:
        return self._policy.decoder(
            input_ids=ids_BL,
            attention_mask=self._mask,
            position_ids=position_BL,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
