"""How far apart the two modes are: exact divergences of their next-token distributions.

Both modes are compared on the same response tokens, over the full vocabulary, in chunks of tokens.
"""

import math

import torch
from torch import Tensor

from trainer.model.logprobs import OutputLayer

CHUNK_TOKENS = 256


@torch.no_grad()
def mode_divergences(hidden_N_TD: Tensor, hidden_H_TD: Tensor, output: OutputLayer) -> dict[str, Tensor]:
    """KL(H||N), KL(N||H) and Jensen-Shannon divergence at each token, nats, shape (T,) each.

    Args:
        hidden_N_TD: hidden states that predict the tokens behind the normal prompt.
        hidden_H_TD: the same behind the high-entropy prompt.
    """
    parts: dict[str, list[Tensor]] = {"kl_H_N": [], "kl_N_H": [], "js": []}
    for start in range(0, len(hidden_N_TD), CHUNK_TOKENS):
        part = slice(start, start + CHUNK_TOKENS)
        log_n = torch.log_softmax(output(hidden_N_TD[part]), dim=-1)
        log_h = torch.log_softmax(output(hidden_H_TD[part]), dim=-1)
        n, h = log_n.exp(), log_h.exp()
        # A token that neither mode can produce has log-probability -inf in both: its term is 0.
        kl_h = torch.nan_to_num(h * (log_h - log_n), nan=0.0).sum(-1)
        kl_n = torch.nan_to_num(n * (log_n - log_h), nan=0.0).sum(-1)
        log_m = torch.logaddexp(log_n, log_h) - math.log(2.0)
        js_h = torch.nan_to_num(h.mul_(log_h.sub_(log_m)), nan=0.0).sum(-1)
        js_n = torch.nan_to_num(n.mul_(log_n.sub_(log_m)), nan=0.0).sum(-1)
        for name, value in (("kl_H_N", kl_h), ("kl_N_H", kl_n), ("js", (js_h + js_n) / 2)):
            parts[name].append(value)
    return {
        name: torch.cat(values) if values else torch.zeros(0, device=hidden_N_TD.device)
        for name, values in parts.items()
    }
