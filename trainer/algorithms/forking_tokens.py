"""Forking tokens (Wang et al., "Beyond the 80/20 Rule", arXiv 2506.01939): train the undecided tokens alone.

The quantile is taken over all trained tokens of the optimiser batch, and the loss is still divided by all of
them, as in the paper's equation: with fewer tokens the gradient is smaller, too. It is taken anew before each
update of a batch: the rule is about where the policy that learns is undecided, and changes no advantage.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trainer.algorithms.base import TokenInputs
from trainer.algorithms.token_choice import BatchTokens, TokenChoiceAlgorithm
from trainer.objective.loss import TokenLoss
from trainer.objective.transfer import placed
from trainer.spec.algorithm import ForkingTokens


def forking(entropy_T: Tensor, share: float) -> Tensor:
    """H_t >= the (1 - ``share``) quantile of all H (linear interpolation); boolean, shape (T,)."""
    if not entropy_T.numel():
        return torch.zeros(0, dtype=torch.bool)
    # Sorted by hand: torch.quantile refuses more than 16 million elements.
    ordered_T = entropy_T.sort().values
    position = (1.0 - share) * (len(ordered_T) - 1)
    below = int(position)
    above = min(below + 1, len(ordered_T) - 1)
    threshold = torch.lerp(ordered_T[below], ordered_T[above], position - below)
    return entropy_T >= threshold


class ForkingTokensAlgorithm(TokenChoiceAlgorithm):
    """The clipped loss of the tokens whose entropy is in the batch's top share; zero for the others."""

    spec: ForkingTokens
    observes_every_update = True

    def choose(self, tokens: BatchTokens, generator: torch.Generator) -> Tensor:
        return forking(tokens.entropy_T, self.spec.share).cpu()

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        token = super().token_loss(tokens)
        chosen_T = placed(self.chosen(tokens.plan), token.loss_T.device)
        return replace(token, loss_T=torch.where(chosen_T, token.loss_T, torch.zeros_like(token.loss_T)))
