"""Entropy-shaped advantage (Cheng et al., "Reasoning with Exploration", arXiv 2506.14758).

H_t does not depend on the token that was drawn: the bonus reinforces whatever was sampled where the policy
was undecided. The surprisal of the drawn token would be another method. Over several updates of a batch H_t
stays that of the policy that sampled, as every part of an advantage does.
"""

from torch import Tensor

from trainer.algorithms.base import AdvantageInputs, Algorithm
from trainer.objective.metrics import MetricSums
from trainer.objective.shaping import entropy_bonus
from trainer.objective.transfer import chosen, onto
from trainer.spec.algorithm import EntropyAdvantage


class EntropyAdvantageAlgorithm(Algorithm):
    """A_t += min(a sg[H_t], |A_t| / kappa)."""

    spec: EntropyAdvantage

    def shape_advantage(self, tokens: AdvantageInputs, metrics: MetricSums) -> Tensor:
        plan, mode = tokens.plan, tokens.mode
        rewarded_T = tokens.rewarded_T.to(tokens.entropy_T.dtype)
        advantage_T = onto(rewarded_T, tokens.entropy_T)
        bonus_T = entropy_bonus(tokens.entropy_T, advantage_T, self.spec.scale, self.spec.kappa)
        trains_T = plan.trains_G[mode][plan.group.response_of_T]
        bound_T = rewarded_T.abs() / self.spec.kappa
        trained_T, active_T = (
            chosen(mask_T, advantage_T.device) for mask_T in (trains_T, trains_T & (bound_T > 0))
        )
        clipped_T = bonus_T >= onto(bound_T, bonus_T)
        metrics.add_mean(f"train/{mode.label}/bonus_abs", bonus_T[trained_T])
        metrics.add_max(f"train/{mode.label}/bonus_max", bonus_T[trained_T])
        metrics.add_mean(f"train/{mode.label}/bonus_clipfrac", clipped_T[active_T].double())
        return advantage_T + bonus_T
