"""The built-in rollout engine: batched decoding on the training model itself, so weights need no sync.

A prompt is computed once and its key-value cache copied to its responses; rows of both modes decode in one
batch; finished rows leave the batch. Each row draws from its own random stream by inverse transform.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.policy import Policy
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest

PROGRESS_EVERY = 16


class TransformersEngine(RolloutEngine):
    """Samples with the policy's own modules; ``max_batch`` bounds the rows decoded at once."""

    def __init__(self, policy: Policy, max_batch: int = 128):
        self._policy = policy
        self._max_batch = max_batch

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        draw = partial(_draw, temperature=temperature, top_p=top_p, top_k=top_k)
        samples: list[Sample] = []
        for start in range(0, len(requests), self._max_batch):
            batch = requests[start : start + self._max_batch]
            samples += self._generate_batch(batch, max_tokens, draw, on_progress)
        return samples

    def _generate_batch(
        self,
        requests: Sequence[SampleRequest],
        max_tokens: int,
        draw: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        on_progress: Callable[[], None] | None,
    ) -> list[Sample]:
        device = self._policy.device
        uniforms = torch.stack(
            [torch.rand(max_tokens, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
        ).to(device)
        output = self._policy.output_layer()
        hidden, cache, mask, position = self._prefill(requests)
        stop_ids = torch.tensor(sorted(self._policy.stop_ids), device=device)
        rows = torch.arange(len(requests), device=device)
        ids: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        finished = [False] * len(requests)
        for step in range(max_tokens):
            token, logp = draw(output(hidden), uniforms[rows, step])
            stopped = torch.isin(token, stop_ids)
            for row, one_token, one_logp, end in zip(
                rows.tolist(), token.tolist(), logp.tolist(), stopped.tolist(), strict=True
            ):
                ids[row].append(one_token)
                logprobs[row].append(one_logp)
                finished[row] = end
            if step + 1 == max_tokens or bool(stopped.all()):
                break
            if bool(stopped.any()):
                alive = (~stopped).nonzero().squeeze(-1)
                cache.batch_select_indices(alive)
                rows, token, mask, position = rows[alive], token[alive], mask[alive], position[alive]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            hidden = self._policy.decoder(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            position = position + 1
            if on_progress and step % PROGRESS_EVERY == 0:
                on_progress()
        return [
            Sample(one_ids, one_logprobs, truncated=not end)
            for one_ids, one_logprobs, end in zip(ids, logprobs, finished, strict=True)
        ]

    def _prefill(self, requests: Sequence[SampleRequest]) -> tuple[Tensor, DynamicCache, Tensor, Tensor]:
        """Compute each distinct prompt once (left-padded) and copy the result to its requests.

        Returns the last hidden states (B, D), the cache, the attention mask (B, L), the next position (B,).
        """
        device = self._policy.device
        distinct = list(dict.fromkeys(request.prompt_ids for request in requests))
        length = max(map(len, distinct))
        ids = torch.full((len(distinct), length), self._policy.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(distinct):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._policy.model.config)
        hidden = self._policy.decoder(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=position.to(device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        number = {prompt: row for row, prompt in enumerate(distinct)}
        owner = torch.tensor([number[request.prompt_ids] for request in requests], device=device)
        cache.batch_select_indices(owner)
        mask, position = mask.to(device), position.to(device)
        return hidden[owner], cache, mask[owner], position[owner, -1] + 1


def _draw(
    logits_BV: Tensor,
    uniform_B: Tensor,
    temperature: float,
    top_p: float = 1.0,
    top_k: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample by inverse transform, one uniform number a row; returns tokens and their log-probability.

    The log-probability is that under the distribution sampled from: 0 for the certain choice of temperature
    0, and renormalised where ``top_k`` and ``top_p`` leave tokens out.
    """
    if temperature == 0.0:
        token = logits_BV.argmax(dim=-1)
        return token, torch.zeros_like(token, dtype=torch.float32)
    log_p = torch.log_softmax(logits_BV.float() / temperature, dim=-1)
    if top_p < 1.0 or top_k is not None:
        log_p = torch.log_softmax(_keep_likely(log_p, top_p, top_k), dim=-1)
    cumulative = log_p.exp().cumsum(-1)
    # The last sum is 1 up to rounding; scaling by it keeps the draw inside the vocabulary.
    target = uniform_B[:, None] * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    token = token.clamp(max=logits_BV.shape[-1] - 1)
    return token, log_p.gather(-1, token[:, None]).squeeze(-1)


def _keep_likely(log_p_BV: Tensor, top_p: float, top_k: int | None) -> Tensor:
    """-inf for all but the ``top_k`` likeliest tokens, and of these for all but the fewest that together have
    ``top_p`` of their probability; the likeliest always stays."""
    count = log_p_BV.shape[-1] if top_k is None else min(top_k, log_p_BV.shape[-1])
    kept, index = torch.topk(log_p_BV, count, dim=-1)
    p = kept.softmax(dim=-1)
    before = p.cumsum(dim=-1) - p
    outside = before >= top_p
    outside[:, 0] = False
    return torch.full_like(log_p_BV, -torch.inf).scatter(-1, index, kept.masked_fill(outside, -torch.inf))
