"""GSPO (Zheng et al., arXiv 2507.18071): one importance ratio a response, the geometric mean of its tokens'.

At ratio 1 its gradient is that of GRPO with ``sequence_mean``. Its clip range is hundreds of times narrower
than GRPO's, because a mean over tokens moves that much less.
"""

import torch

from trainer.algorithms.base import Algorithm, TokenInputs
from trainer.objective.loss import MAX_LOG_RATIO, TokenLoss, clipped_ratio_loss
from trainer.objective.shaping import mean_per_response
from trainer.objective.transfer import placed
from trainer.spec.algorithm import Gspo


class GspoAlgorithm(Algorithm):
    """min(s_i A, clip(s_i) A) with s_i = exp(mean_t log rho_t): every token carries its response's loss."""

    spec: Gspo

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        group = tokens.plan.group
        response_of_T = placed(group.response_of_T, tokens.logp_T.device)
        log_ratio_T = tokens.logp_T - tokens.old_logp_T
        log_ratio_G = mean_per_response(log_ratio_T, response_of_T, len(group.rollouts))
        ratio_G = torch.exp(log_ratio_G.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
        return clipped_ratio_loss(
            ratio_G[response_of_T],
            tokens.advantage_T,
            clip_low=self.spec.clip_low,
            clip_high=self.spec.clip_high,
            importance_T=tokens.importance_T,
        )
