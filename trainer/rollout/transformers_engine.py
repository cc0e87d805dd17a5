"""The built-in rollout engine: batched decoding on the training model itself, so weights need no sync.

A prompt is computed and kept once for all of its responses; rows of both modes decode in one batch; finished
rows leave the batch. Each row draws from its own random stream by inverse transform, and where it is held to
a form, among the tokens that may follow.

Of a sharded model every rank has all weights while it samples, in the precision that is computed in: ranks
decode different numbers of tokens, so they could not put layers together at each. A model that does not fit
one GPU so is sampled by vLLM.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.rollout.decoders import PlainDecoder, SharedPrefixDecoder
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.rollout.held import Forms, HeldRows

PROGRESS_EVERY = 16
BLOCK = 512
"""Tokens of the vocabulary whose probabilities are added up before one of them is drawn."""
CLEAR_BEYOND = 8
"""Finished rows are cleared away once they are one in this many: moving the others costs a copy."""


class TransformersEngine(RolloutEngine):
    """Samples with the policy's own modules; ``max_batch`` bounds the rows decoded at once."""

    def __init__(self, policy: Policy, max_batch: int = 128):
        self._policy = policy
        self._max_batch = max_batch
        self._forms = Forms(policy)

    def sampling(self) -> AbstractContextManager[None]:
        return self._policy.whole()

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        form: ResponseFormat | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        held = None if form is None else self._forms.hold(form)
        draw = partial(_draw, temperature=temperature, top_p=top_p, top_k=top_k)
        samples: list[Sample] = []
        for start in range(0, len(requests), self._max_batch):
            batch = requests[start : start + self._max_batch]
            samples += self._generate_batch(batch, max_tokens, draw, held, on_progress)
        return samples

    def _generate_batch(
        self,
        requests: Sequence[SampleRequest],
        max_tokens: int,
        draw: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        held: Callable[[int], HeldRows] | None,
        on_progress: Callable[[], None] | None,
    ) -> list[Sample]:
        device = self._policy.device
        # Rows of one prompt side by side, whatever the order of the requests.
        distinct = list(dict.fromkeys(request.prompt_ids for request in requests))
        number = {prompt: place for place, prompt in enumerate(distinct)}
        order = sorted(range(len(requests)), key=lambda place: number[requests[place].prompt_ids])
        owner = [number[requests[place].prompt_ids] for place in order]
        uniforms = torch.stack(
            [
                torch.rand(max_tokens, generator=torch.Generator().manual_seed(requests[place].seed))
                for place in order
            ]
        ).to(device)
        stop_ids = torch.tensor(sorted(self._policy.stop_ids), device=device)
        output = self._policy.output_layer()
        shared = self._policy.layout == "shared_prefix"
        decoder = (SharedPrefixDecoder if shared else PlainDecoder)(self._policy, distinct, owner)
        hidden = decoder.prefill()
        #: What is decoded: the request of each row; a finished row stays until the next clearing.
        rows = list(range(len(order)))
        ids: list[list[int]] = [[] for _ in order]
        logprobs: list[list[float]] = [[] for _ in order]
        finished = [False] * len(order)
        forms = None if held is None else held(len(order))
        for step in range(max_tokens):
            logits = output(hidden)
            if forms is not None:
                logits = forms.restricted(logits, rows)
            token, logp = draw(logits, uniforms[rows, step])
            stopped = torch.isin(token, stop_ids)
            for row, one_token, one_logp, end in zip(
                rows, token.tolist(), logp.tolist(), stopped.tolist(), strict=True
            ):
                if not finished[row]:
                    ids[row].append(one_token)
                    logprobs[row].append(one_logp)
                    finished[row] = end
                    if forms is not None:
                        forms.accept(row, one_token, end)
            alive = [place for place, row in enumerate(rows) if not finished[row]]
            if step + 1 == max_tokens or not alive:
                break
            if (len(rows) - len(alive)) * CLEAR_BEYOND >= len(rows):
                decoder.keep(alive)
                token = token[alive]
                rows = [rows[place] for place in alive]
            hidden = decoder.step(token)
            if on_progress and step % PROGRESS_EVERY == 0:
                on_progress()
        samples: list[Sample | None] = [None] * len(requests)
        for row, place in enumerate(order):
            samples[place] = Sample(ids[row], logprobs[row], truncated=not finished[row])
        return samples  # type: ignore[return-value]


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
    score_BV = logits_BV.float()
    if temperature != 1.0:
        score_BV = score_BV / temperature
    log_p = torch.log_softmax(score_BV, dim=-1)
    if top_p < 1.0 or top_k is not None:
        log_p = torch.log_softmax(_keep_likely(log_p, top_p, top_k), dim=-1)
    token = _passed(log_p, uniform_B[:, None])
    return token.squeeze(-1), log_p.gather(-1, token).squeeze(-1)


def _passed(log_p_BV: Tensor, uniform: Tensor) -> Tensor:
    """The token at which each row's running sum of probabilities passes its number, (B, 1).

    In two steps where there are many: a running sum over a whole vocabulary takes as long as several layers.
    """
    rows, vocabulary = log_p_BV.shape
    if vocabulary <= BLOCK:
        cumulative_BV = log_p_BV.exp().cumsum(dim=-1)
        return _reached(cumulative_BV, uniform * cumulative_BV[:, -1:])[0]
    p_BV = log_p_BV.new_empty(rows, -(-vocabulary // BLOCK) * BLOCK)
    torch.exp(log_p_BV, out=p_BV[:, :vocabulary])
    p_BV[:, vocabulary:] = 0.0
    p_BKV = p_BV.unflatten(-1, (-1, BLOCK))
    cumulative_BK = p_BKV.sum(dim=-1).cumsum(dim=-1)
    block, rest = _reached(cumulative_BK, uniform * cumulative_BK[:, -1:])
    of_block = p_BKV.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1)
    token, _ = _reached(of_block.cumsum(dim=-1), rest)
    return (block * BLOCK + token).clamp(max=vocabulary - 1)  # where a logit is not a number


def _reached(cumulative_BK: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first place at which each row's sum exceeds its target, (B, 1), and what is left of that before it.

    A target that rounding has raised to the whole sum or beyond is lowered: a place of weight 0 is never it.
    """
    target = torch.minimum(target, torch.nextafter(cumulative_BK[:, -1:], target.new_zeros(())))
    place = torch.searchsorted(cumulative_BK, target, right=True).clamp(max=cumulative_BK.shape[-1] - 1)
    before = cumulative_BK.gather(-1, (place - 1).clamp(min=0))
    return place, target - before.where(place > 0, 0.0)


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
