"""Log-probability of the sampled tokens and entropy of their distributions, chunk by chunk.

The logits of a whole batch (tokens x vocabulary) never exist: each chunk's are computed from the hidden
states, reduced to two numbers a token, and dropped; the backward pass computes them again, but for the first
tokens, whose probabilities are kept while they fit in ``KEPT_BYTES``. Logits are reduced in float32 whatever
the weights' precision, and so is 1 - pi(o_t), the gradient of a confident token: it comes from log pi(o_t),
never from a probability that was rounded to bfloat16 (``benchmarks.logprob_gradients`` has the errors).

A bfloat16 product rounds each logit to 8 bits. On SmolLM2-135M's own samples that moved a token's
log-probability by 0.020 nats on average and 0.13 at most, against float64 arithmetic on the same hidden
states: as much as a policy moves in several steps. With ``logits_dtype`` "float32", the default, it is 1e-6
and 1e-5. CPUs have no such product and multiply in float32; on CUDA the product itself writes float32.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trainer.model.autograd import Saved
from trainer.model.packed_linear import can_pack, packed, packed_product, weight_product, widens
from trainer.model.products import add_product, sums_stay, wide_product
from trainer.spec.model import LogitsDtype

CHUNK_TOKENS = 1024
CACHED_TOKENS = 64
KEPT_BYTES = 256 * 2**20
"""Probabilities that the forward pass leaves for the backward pass on a CPU, whatever the batch."""

DEVICE_SHARE = 32
"""On a device with memory of its own: one part in so many for a chunk, one for kept probabilities."""
CHUNK_COPIES = 4
"""Of a chunk's logits in float32 at once: logits, probabilities, their gradient and what is between."""
LEAST_CHUNK = 128
"""Tokens below which a product with the output matrix mostly waits for that matrix."""


class Cost(NamedTuple):
    """What the logits of a batch may take."""

    chunk: int
    """Tokens whose logits there are at once."""
    kept_bytes: int
    """Probabilities that are kept for the way back."""

    @classmethod
    def on(cls, memory: int, vocabulary: int) -> "Cost":
        """On a device with ``memory`` bytes."""
        share = memory // DEVICE_SHARE
        return cls(max(LEAST_CHUNK, share // (CHUNK_COPIES * 4 * vocabulary)), share)

    @classmethod
    def of(cls, output_VD: Tensor) -> "Cost":
        """On the device of the output matrix."""
        if not output_VD.is_cuda:
            return cls(CHUNK_TOKENS, KEPT_BYTES)
        return cls.on(torch.cuda.get_device_properties(output_VD.device).total_memory, len(output_VD))


class OutputLayer:
    """Logits of hidden states, the same for rollouts, training and diagnostics.

    Holds a packed copy of the output matrix on the CPU, a float32 one where bfloat16 weights are to have
    exact logits, so it serves while the weights stay as they are.
    """

    def __init__(self, output_VD: Tensor, logits_dtype: LogitsDtype = "float32"):
        exact = logits_dtype == "float32" and output_VD.dtype.itemsize < 4
        self._into_float32 = exact and sums_stay(output_VD)
        weight_VD = output_VD.detach()
        wide = widens(output_VD)
        #: Rounded to after a product in float32; None: what the product gives is right.
        self._rounds_to = output_VD.dtype if wide and not exact else None
        if (exact or wide) and not self._into_float32:
            weight_VD = weight_VD.float()
        self._dtype = weight_VD.dtype
        self._packed = can_pack(weight_VD)
        self._weight_VD = packed(weight_VD) if self._packed else weight_VD

    def __call__(self, hidden_TD: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits at ``temperature``, float32 or better; shape (T, D) to (T, V). Without gradient."""
        if self._into_float32:
            logits = wide_product(hidden_TD, self._weight_VD.t())
        elif self._packed:
            logits = packed_product(hidden_TD.to(self._dtype), self._weight_VD).float()
        else:
            logits = hidden_TD.to(self._dtype) @ self._weight_VD.t()
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self._rounds_to is not None:
            logits = logits.to(self._rounds_to).float()
        return logits if temperature == 1.0 else logits / temperature


def token_logprobs(
    hidden_TD: Tensor,
    output_VD: Tensor,
    token_T: Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
    logits_dtype: LogitsDtype = "float32",
    output: OutputLayer | None = None,
    kept_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log pi(o_t) and H_t (nats) at temperature ``temperature``; both shape (T,), float32, differentiable.

    Args:
        hidden_TD: last hidden states at the positions that predict the tokens.
        output_VD: the output matrix (tied or not).
        token_T: the tokens.
        output: the output layer of ``output_VD``, if there is one already.
        chunk, kept_bytes: as in ``Cost``; default: what suits the device.
    """
    output = output or OutputLayer(output_VD, logits_dtype)
    if chunk is None or kept_bytes is None:
        usual = Cost.of(output_VD)
        chunk, kept_bytes = chunk or usual.chunk, usual.kept_bytes if kept_bytes is None else kept_bytes
    cost = Cost(chunk, kept_bytes)
    return _LinearLogProbs.apply(  # type: ignore[return-value]
        hidden_TD, output_VD, token_T, temperature, output, cost, False
    )[:2]


def compared_logprobs(
    hidden_TD: Tensor,
    output_VD: Tensor,
    token_T: Tensor,
    output: OutputLayer,
    temperature: float = 1.0,
    compares: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and whether o_t is the likeliest token: boolean, (T,), empty where it ``compares`` none."""
    return _LinearLogProbs.apply(  # type: ignore[return-value]
        hidden_TD, output_VD, token_T, temperature, output, Cost.of(output_VD), compares
    )


def _pieces(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def _cached(chunk: int, device: torch.device) -> int:
    """Tokens whose numbers stay in a processor's cache while they are reduced."""
    return min(chunk, CACHED_TOKENS) if device.type == "cpu" else chunk


def _put(rows_TV: Tensor, token_T: Tensor, value_T: Tensor) -> None:
    """Write a number at the token of each row. Not by ``scatter_``, which on the CPU widens a bfloat16 matrix
    for it, and rounds it again (torch 2.13)."""
    row_T = torch.arange(len(token_T), device=token_T.device)
    rows_TV[row_T, token_T] = value_T.to(rows_TV.dtype)


class _SavedChunks(Saved, Protocol):
    temperature: float
    chunk: int
    output: OutputLayer

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: _SavedChunks,
        hidden_TD: Tensor,
        output_VD: Tensor,
        token_T: Tensor,
        temperature: float,
        output: OutputLayer,
        cost: Cost,
        compares: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        chunk, kept_bytes = cost
        reduced = torch.promote_types(hidden_TD.dtype, torch.float32)
        logp_T = torch.empty(len(token_T), dtype=reduced, device=hidden_TD.device)
        entropy_T = torch.empty_like(logp_T)
        log_z_T = torch.empty_like(logp_T)
        likeliest_T = torch.empty(len(token_T) if compares else 0, dtype=torch.bool, device=hidden_TD.device)
        #: p - onehot of the first tokens, in the precision in which it is multiplied on the way back.
        row_bytes = len(output_VD) * hidden_TD.dtype.itemsize
        kept = min(len(token_T), kept_bytes // row_bytes) if any(ctx.needs_input_grad) else 0
        kept_TV = hidden_TD.new_empty(kept, len(output_VD))
        for part in _pieces(0, len(token_T), _cached(chunk, hidden_TD.device)):
            logits, token = output(hidden_TD[part], temperature), token_T[part, None]
            if compares:
                likeliest_T[part] = logits.argmax(-1) == token_T[part]
            top = logits.amax(-1, keepdim=True)
            # A token that cannot occur (-inf, p = 0) contributes nothing.
            below = logits.sub_(top).clamp_(min=torch.finfo(logits.dtype).min)
            p = below.softmax(-1)
            log_sum = -p.amax(-1, keepdim=True).log()  # the likeliest token's p is 1 / sum exp(below)
            log_z_T[part] = (top + log_sum).squeeze(-1)
            logp_T[part] = (below.gather(-1, token) - log_sum).squeeze(-1)
            kept_TV[part] = p[: max(kept - part.start, 0)]
            entropy_T[part] = log_sum.squeeze(-1) - p.mul_(below).sum(-1)
        _put(kept_TV, token_T[:kept], logp_T[:kept].expm1())
        ctx.save_for_backward(hidden_TD, output_VD, token_T, logp_T, log_z_T, entropy_T, kept_TV)
        ctx.temperature, ctx.chunk, ctx.output = temperature, chunk, output
        ctx.mark_non_differentiable(likeliest_T)
        # What the loss does not use has no gradient, which is known without reading any number of the device.
        ctx.set_materialize_grads(False)
        return logp_T, entropy_T, likeliest_T

    @staticmethod
    def backward(ctx: _SavedChunks, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_TD, output_VD, token_T, logp_T, log_z_T, entropy_T, kept_TV = ctx.saved_tensors
        entropy_used = gradients[1] is not None and bool(gradients[1].any())
        grad_logp_T, grad_entropy_T = (torch.zeros_like(logp_T) if x is None else x for x in gradients[:2])
        grad_hidden = torch.empty_like(hidden_TD)
        parts = [*_pieces(0, len(kept_TV), ctx.chunk), *_pieces(len(kept_TV), len(token_T), ctx.chunk)]
        # Frozen under adapters: then a matrix of the vocabulary's size is neither made nor filled. Nor is one
        # to add up a single part in.
        trained, grad_output = ctx.needs_input_grad[1], None
        if trained and (len(parts) != 1 or sums_stay(hidden_TD)):
            grad_output = torch.zeros(output_VD.shape, dtype=log_z_T.dtype, device=output_VD.device)
        # Without instructions for bfloat16 its plain products run on one core, a hundred times slower.
        factor_dtype = torch.float32 if widens(hidden_TD) else hidden_TD.dtype
        factor_VD, factor_TD = output_VD.to(factor_dtype), hidden_TD.to(factor_dtype)
        for part in parts:
            # The gradient of z is -scale f, with d logp / dz = onehot - p;  dH / dz = -p (log p + H):
            # f = p - onehot, or f = p (g + g' (log p + H)) - g onehot where the entropy has a gradient g'.
            # The sampled token's part comes from log p: p - 1 of a rounded p is zero from 0.998 on.
            logp, entropy = logp_T[part, None], entropy_T[part, None]
            grad_logp, grad_entropy = grad_logp_T[part, None], grad_entropy_T[part, None]
            mixes = entropy_used and (hidden_TD.is_cuda or bool(grad_entropy.any()))
            is_kept = part.stop <= len(kept_TV)
            own, scale = torch.expm1(logp), grad_logp / ctx.temperature
            if mixes:
                own = own * grad_logp + logp.exp() * (logp + entropy) * grad_entropy
                scale = torch.full_like(scale, 1 / ctx.temperature)
            if is_kept and not mixes:
                f = kept_TV[part].to(factor_dtype)
            else:
                f = factor_TD.new_empty(part.stop - part.start, len(output_VD))
                for piece in _pieces(part.start, part.stop, _cached(ctx.chunk, hidden_TD.device)):
                    place = slice(piece.start - part.start, piece.stop - part.start)
                    if is_kept:
                        p = kept_TV[piece].to(log_z_T.dtype)
                        log_p = p.log()
                    else:
                        log_p = ctx.output(hidden_TD[piece], ctx.temperature).sub_(log_z_T[piece, None])
                        p = log_p.exp()
                    if mixes:
                        log_p.clamp_(min=torch.finfo(log_p.dtype).min).add_(entropy[place])
                        p = log_p.mul_(grad_entropy[place]).add_(grad_logp[place]).mul_(p)
                    f[place] = p
                _put(f, token_T[part], own.squeeze(-1))
            # It is half of a confident token's gradient or more: what its rounding took away is added.
            rest = own - f.gather(-1, token_T[part, None])
            grad_hidden[part] = (wide_product(f, factor_VD) + rest * output_VD[token_T[part]]).mul_(-scale)
            scaled_TD = (factor_TD[part] * -scale).to(factor_dtype)
            if grad_output is not None:
                add_product(grad_output, f.t(), scaled_TD)
            elif trained:
                grad_output = weight_product(f, scaled_TD)
        if grad_output is not None:
            grad_output = grad_output.to(output_VD.dtype)
        return grad_hidden, grad_output, None, None, None, None, None
