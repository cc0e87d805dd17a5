"""Entropy bonus: loss -= c mean_t H_t, with the gradient through H (as in A3C, arXiv 1602.01783)."""

from dataclasses import replace

from trainer.algorithms.base import Algorithm, TokenInputs
from trainer.objective.loss import TokenLoss


class EntropyBonusAlgorithm(Algorithm):
    """The clipped loss minus a constant times the mean token entropy.

    Groups of equal rewards train too: their entropy has a gradient.
    """

    trains_without_advantage = True

    def coefficient(self) -> float:
        """c of the current step, per nat."""
        return self.spec.coefficient

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        return replace(super().token_loss(tokens), regularizer_T=-self.coefficient() * tokens.entropy_T)

    def schedule_metrics(self, step: int) -> dict[str, float]:
        return super().schedule_metrics(step) | {"train/entropy_coefficient": self.coefficient()}
