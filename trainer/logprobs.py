"""Log-probability of the sampled tokens and entropy of their distributions, chunk by chunk.

The logits of a whole batch (tokens x vocabulary) never exist: each chunk's are computed from the hidden
states, reduced to two numbers a token, and dropped; the backward pass computes them again. Logits are
reduced in float32 whatever the weights' precision.

A bfloat16 product rounds each logit to 8 bits. On SmolLM2-135M's own samples that moved a token's
log-probability by 0.020 nats on average and 0.13 at most, against float64 arithmetic on the same hidden
states: as much as a policy moves in several steps. With ``logits_dtype`` "float32", the default, it is 1e-6
and 1e-5. CPUs have no such product and multiply in float32, which took 6 % more processor time for sampling,
14 % for the forward and 1 % for the backward pass (same model, bfloat16); on CUDA the product itself writes
float32.
"""

from typing import Any

import torch
from torch import Tensor

from trainer.spec import LogitsDtype

CHUNK_TOKENS = 512


class OutputLayer:
    """Logits of hidden states, the same for rollouts, training and diagnostics.

    Holds a float32 copy of a bfloat16 output matrix on devices that cannot multiply bfloat16 into float32, so
    it is made for a while and for weights that stay as they are.
    """

    def __init__(self, output_VD: Tensor, logits_dtype: LogitsDtype = "float32"):
        exact = logits_dtype == "float32" and output_VD.dtype.itemsize < 4
        self._into_float32 = exact and output_VD.is_cuda
        self._weight_VD = output_VD.detach()
        if exact and not self._into_float32:
            self._weight_VD = self._weight_VD.float()

    def __call__(self, hidden_TD: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits at ``temperature``, float32 or better; shape (T, D) to (T, V). Without gradient."""
        if self._into_float32:
            logits = torch.mm(hidden_TD, self._weight_VD.t(), out_dtype=torch.float32)
        else:
            logits = hidden_TD.to(self._weight_VD.dtype) @ self._weight_VD.t()
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if temperature == 1.0 else logits / temperature


def token_logprobs(
    hidden_TD: Tensor,
    output_VD: Tensor,
    token_T: Tensor,
    temperature: float = 1.0,
    chunk: int = CHUNK_TOKENS,
    logits_dtype: LogitsDtype = "float32",
) -> tuple[Tensor, Tensor]:
    """log pi(o_t) and H_t (nats) at temperature ``temperature``; both shape (T,), float32, differentiable.

    Args:
        hidden_TD: last hidden states at the positions that predict the tokens.
        output_VD: the output matrix (tied or not).
        token_T: the tokens.
    """
    return _LinearLogProbs.apply(  # type: ignore[return-value]
        hidden_TD, output_VD, token_T, temperature, chunk, logits_dtype
    )


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden_TD: Tensor,
        output_VD: Tensor,
        token_T: Tensor,
        temperature: float,
        chunk: int,
        logits_dtype: LogitsDtype,
    ) -> tuple[Tensor, Tensor]:
        output = OutputLayer(output_VD, logits_dtype)
        reduced = torch.promote_types(hidden_TD.dtype, torch.float32)
        logp_T = torch.empty(len(token_T), dtype=reduced, device=hidden_TD.device)
        entropy_T = torch.empty_like(logp_T)
        log_z_T = torch.empty_like(logp_T)
        for start in range(0, len(token_T), chunk):
            part = slice(start, start + chunk)
            z = output(hidden_TD[part], temperature)
            log_z = torch.logsumexp(z, dim=-1)
            logp_T[part] = z.gather(-1, token_T[part, None]).squeeze(-1) - log_z
            p = torch.exp(z - log_z[:, None])
            # Z - sum p z; a token that cannot occur (z = -inf, p = 0) contributes nothing.
            entropy_T[part] = log_z - p.mul_(z.clamp_(min=torch.finfo(z.dtype).min)).sum(dim=-1)
            log_z_T[part] = log_z
        ctx.save_for_backward(hidden_TD, output_VD, token_T, log_z_T, entropy_T)
        ctx.temperature, ctx.chunk, ctx.logits_dtype = temperature, chunk, logits_dtype
        return logp_T, entropy_T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_logp_T, grad_entropy_T = gradients
        hidden_TD, output_VD, token_T, log_z_T, entropy_T = ctx.saved_tensors
        output = OutputLayer(output_VD, ctx.logits_dtype)
        grad_hidden = torch.empty_like(hidden_TD)
        # Frozen under adapters: then a matrix of the vocabulary's size is neither made nor filled.
        grad_output = (
            torch.zeros(output_VD.shape, dtype=log_z_T.dtype, device=output_VD.device)
            if ctx.needs_input_grad[1]
            else None
        )
        entropy_used = bool(grad_entropy_T.any())
        for start in range(0, len(token_T), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            log_p = output(hidden_TD[part], ctx.temperature).sub_(log_z_T[part, None])
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
            if grad_output is not None:
                grad_output += grad_z.t() @ hidden_TD[part]
        if grad_output is not None:
            grad_output = grad_output.to(output_VD.dtype)
        return grad_hidden, grad_output, None, None, None, None
