"""KL-Cov (Cui et al., arXiv 2505.22617): the tokens of highest covariance are held to the old policy.

The penalty's gradient is zero at ratio 1: with one update per batch this is plain policy gradient. Over
several updates of a batch the covariance, and so the choice, stays that of the policy that sampled.
"""

import torch
from torch import Tensor

from trainer.algorithms.base import TokenInputs
from trainer.algorithms.token_choice import BatchTokens, TokenChoiceAlgorithm
from trainer.objective.covariance import largest, token_covariance
from trainer.objective.loss import TokenLoss, importance_ratio
from trainer.objective.transfer import placed
from trainer.spec.algorithm import KlCov


class KlCovAlgorithm(TokenChoiceAlgorithm):
    """-rho A, and + beta |log pi - log pi_old| on the chosen tokens; nothing is clipped.

    Groups of equal rewards train too: in a second update the penalty acts on them.
    """

    spec: KlCov
    trains_without_advantage = True

    def choose(self, tokens: BatchTokens, generator: torch.Generator) -> Tensor:
        return largest(token_covariance(tokens.advantage_T, tokens.old_logp_T), self.spec.share)

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        loss_T = -importance_ratio(tokens.logp_T, tokens.old_logp_T) * tokens.advantage_T
        distance_T = (tokens.logp_T - tokens.old_logp_T).abs()
        chosen_T = placed(self.chosen(tokens.plan), loss_T.device)
        loss_T = torch.where(chosen_T, loss_T + self.spec.kl_coefficient * distance_T, loss_T)
        if tokens.importance_T is not None:
            loss_T = loss_T * tokens.importance_T
        never_T = torch.zeros_like(chosen_T)
        return TokenLoss(loss_T, clipped_low_T=never_T, clipped_high_T=never_T)
