"""Clip-Cov (Cui et al., arXiv 2505.22617): a few tokens of high covariance give no gradient."""

from dataclasses import replace

import torch
from torch import Tensor

from trainer.algorithm_spec import ClipCov
from trainer.algorithms.base import TokenInputs
from trainer.algorithms.token_choice import BatchTokens, TokenChoiceAlgorithm
from trainer.covariance import draw_within, token_covariance
from trainer.loss import TokenLoss


class ClipCovAlgorithm(TokenChoiceAlgorithm):
    """Detaches tokens drawn from a band of the covariance; they still count in the means."""

    spec: ClipCov

    def choose(self, tokens: BatchTokens, generator: torch.Generator) -> Tensor:
        covariance_T = token_covariance(tokens.advantage_T, tokens.logp_T)
        return draw_within(covariance_T, self.spec.band_low, self.spec.band_high, self.spec.share, generator)

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        token = super().token_loss(tokens)
        detached_T = self.chosen(tokens.plan).to(token.loss_T.device)
        return replace(token, loss_T=torch.where(detached_T, token.loss_T.detach(), token.loss_T))
