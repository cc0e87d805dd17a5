"""CISPO (MiniMax-M1, arXiv 2506.13585): the importance weight is clipped, never the token's gradient."""

import torch

from trainer.algorithms.base import Algorithm, TokenInputs
from trainer.objective.loss import TokenLoss, importance_ratio
from trainer.spec.algorithm import Cispo


class CispoAlgorithm(Algorithm):
    """-sg[min(rho_t, 1 + eps_high)] A_t log pi_t, averaged over tokens."""

    spec: Cispo

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        ratio_T = importance_ratio(tokens.logp_T, tokens.old_logp_T).detach()
        cap = 1.0 + self.spec.clip_high
        loss_T = -ratio_T.clamp(max=cap) * tokens.advantage_T * tokens.logp_T
        if tokens.importance_T is not None:
            loss_T = loss_T * tokens.importance_T
        capped_T = ratio_T > cap
        return TokenLoss(loss_T, clipped_low_T=torch.zeros_like(capped_T), clipped_high_T=capped_T)
