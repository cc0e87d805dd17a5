"""Log-probability of the sampled tokens and entropy of their distributions, chunk by chunk.

The logits of a whole batch (tokens x vocabulary) never exist: each chunk's are computed from the hidden
states, reduced to two numbers a token, and dropped; the backward pass computes them again. Logits are
reduced in float32 whatever the weights' precision.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_TOKENS = 512


def token_logprobs(
    hidden_TD: Tensor, output_VD: Tensor, token_T: Tensor, temperature: float = 1.0, chunk: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """log pi(o_t) and H_t (nats) at temperature ``temperature``; both shape (T,), float32, differentiable.

    Args:
        hidden_TD: last hidden states at the positions that predict the tokens.
        output_VD: the output matrix (tied or not).
        token_T: the tokens.
    """
    return _LinearLogProbs.apply(hidden_TD, output_VD, token_T, temperature, chunk)  # type: ignore[return-value]


def _logits(hidden: Tensor, output_VD: Tensor, temperature: float) -> Tensor:
    logits = (hidden @ output_VD.t()).to(torch.promote_types(hidden.dtype, torch.float32))
    return logits if temperature == 1.0 else logits / temperature


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden_TD: Tensor, output_VD: Tensor, token_T: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        reduced = torch.promote_types(hidden_TD.dtype, torch.float32)
        logp_T = torch.empty(len(token_T), dtype=reduced, device=hidden_TD.device)
        entropy_T = torch.empty_like(logp_T)
        log_z_T = torch.empty_like(logp_T)
        for start in range(0, len(token_T), chunk):
            part = slice(start, start + chunk)
            z = _logits(hidden_TD[part], output_VD, temperature)
            log_z = torch.logsumexp(z, dim=-1)
            logp_T[part] = z.gather(-1, token_T[part, None]).squeeze(-1) - log_z
            p = torch.exp(z - log_z[:, None])
            # Z - sum p z; a token that cannot occur (z = -inf, p = 0) contributes nothing.
            entropy_T[part] = log_z - p.mul_(z.clamp_(min=torch.finfo(z.dtype).min)).sum(dim=-1)
            log_z_T[part] = log_z
        ctx.save_for_backward(hidden_TD, output_VD, token_T, log_z_T, entropy_T)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logp_T, entropy_T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_logp_T, grad_entropy_T = gradients
        hidden_TD, output_VD, token_T, log_z_T, entropy_T = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_TD)
        grad_output = torch.zeros(output_VD.shape, dtype=log_z_T.dtype, device=output_VD.device)
        entropy_used = bool(grad_entropy_T.any())
        for start in range(0, len(token_T), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            log_p = _logits(hidden_TD[part], output_VD, ctx.temperature).sub_(log_z_T[part, None])
            p = log_p.exp()
            # d logp / dz = onehot - p;  dH / dz = -p (log p + H)
            if entropy_used:
                log_p.clamp_(min=torch.finfo(log_p.dtype).min)
                grad_z = log_p.add_(entropy_T[part, None]).mul_(p).mul_(-grad_entropy_T[part, None])
                grad_z.sub_(p.mul_(grad_logp_T[part, None]))
            else:
                grad_z = p.mul_(-grad_logp_T[part, None])
            grad_z.scatter_add_(-1, token_T[part, None], grad_logp_T[part, None])
            if ctx.temperature != 1.0:
                grad_z.div_(ctx.temperature)
            grad_z = grad_z.to(hidden_TD.dtype)
            grad_hidden[part] = grad_z @ output_VD
            grad_output += grad_z.t() @ hidden_TD[part]
        return grad_hidden, grad_output.to(output_VD.dtype), None, None, None
