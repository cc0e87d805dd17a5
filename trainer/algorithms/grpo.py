"""GRPO (Shao et al., arXiv 2402.03300): one mode, group-relative advantage, clipped ratio, no KL term."""

from torch import Tensor

from trainer.advantage import group_advantage
from trainer.algorithms.base import GroupPlan
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.spec import Aggregation, Grpo
from trainer.types import Group


class GrpoAlgorithm:
    """Samples and trains the normal mode alone."""

    def __init__(self, spec: Grpo):
        self.aggregation: Aggregation = spec.aggregation
        self.clip_low = spec.clip_low
        self.clip_high = spec.clip_high

    def samples(self, step: int, samples_per_prompt: int) -> dict[Mode, int]:
        return {Mode.NORMAL: samples_per_prompt}

    def mode_weights(self, step: int) -> dict[Mode, float]:
        return {Mode.NORMAL: 1.0}

    def scored_modes(self, step: int) -> tuple[Mode, ...]:
        return (Mode.NORMAL,)

    def plan(self, group: Group) -> GroupPlan:
        rewards_G = group.rewards_G
        return GroupPlan(
            group,
            advantage_G={Mode.NORMAL: group_advantage(rewards_G)},
            trains_G={Mode.NORMAL: ~rewards_G.isnan()},
        )

    def shape_advantage(
        self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor], step: int, metrics: MetricSums
    ) -> Tensor:
        return plan.advantage_G[mode][plan.group.response_of_T]

    def importance(self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor]) -> Tensor | None:
        return None

    def schedule_metrics(self, step: int) -> dict[str, float]:
        return {"train/weight_N": 1.0}
