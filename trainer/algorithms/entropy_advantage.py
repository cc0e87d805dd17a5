"""Entropy-shaped advantage (Cheng et al., "Reasoning with Exploration", arXiv 2506.14758).

H_t does not depend on the token that was drawn: the bonus reinforces whatever was sampled where the policy
was undecided. The surprisal of the drawn token would be another method.
"""

from torch import Tensor

from trainer.algorithm_spec import EntropyAdvantage
from trainer.algorithms.base import Algorithm, GroupPlan
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.shaping import entropy_bonus


class EntropyAdvantageAlgorithm(Algorithm):
    """A_t += min(a sg[H_t], |A_t| / kappa)."""

    spec: EntropyAdvantage

    def shape_advantage(
        self,
        plan: GroupPlan,
        mode: Mode,
        old_logp_T: dict[Mode, Tensor],
        entropy_T: Tensor,
        step: int,
        metrics: MetricSums,
    ) -> Tensor:
        response_of_T = plan.group.response_of_T
        advantage_T = plan.advantage_G[mode][response_of_T].to(entropy_T)
        bonus_T = entropy_bonus(entropy_T, advantage_T, self.spec.scale, self.spec.kappa)
        trained_T = plan.trains_G[mode][response_of_T].to(entropy_T.device)
        bound_T = advantage_T.abs() / self.spec.kappa
        active_T = trained_T & (bound_T > 0)
        metrics.add_mean(f"train/{mode.label}/bonus_abs", bonus_T[trained_T])
        metrics.add_max(f"train/{mode.label}/bonus_max", bonus_T[trained_T])
        metrics.add_mean(f"train/{mode.label}/bonus_clipfrac", (bonus_T >= bound_T)[active_T].double())
        return advantage_T + bonus_T
