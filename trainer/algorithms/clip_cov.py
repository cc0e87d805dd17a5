"""Clip-Cov (Cui et al., arXiv 2505.22617): a few tokens of high covariance give no gradient.

Drawn before each update among the tokens to which the ratio's clip leaves a gradient. Over several updates
of a batch the covariance is that of the policy that sampled, as the advantage is: what an update has moved is
the clip's business, and a token does not leave the band by being trained.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trainer.algorithms.base import TokenInputs
from trainer.algorithms.token_choice import BatchTokens, TokenChoiceAlgorithm
from trainer.objective.covariance import draw_within, token_covariance
from trainer.objective.loss import TokenLoss, clipped_token_loss
from trainer.objective.transfer import placed
from trainer.spec.algorithm import ClipCov


class ClipCovAlgorithm(TokenChoiceAlgorithm):
    """Detaches tokens drawn from a band of the covariance; they still count in the means."""

    spec: ClipCov
    observes_every_update = True

    def choose(self, tokens: BatchTokens, generator: torch.Generator) -> Tensor:
        covariance_T = token_covariance(tokens.advantage_T, tokens.old_logp_T)
        token = clipped_token_loss(
            tokens.logp_T,
            tokens.old_logp_T,
            tokens.advantage_T,
            clip_low=self.spec.clip_low,
            clip_high=self.spec.clip_high,
        )
        covariance_T = covariance_T.masked_fill(token.clipped_low_T | token.clipped_high_T, -torch.inf)
        return draw_within(covariance_T, self.spec.band_low, self.spec.band_high, self.spec.share, generator)

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        token = super().token_loss(tokens)
        detached_T = placed(self.chosen(tokens.plan), token.loss_T.device)
        return replace(token, loss_T=torch.where(detached_T, token.loss_T.detach(), token.loss_T))
