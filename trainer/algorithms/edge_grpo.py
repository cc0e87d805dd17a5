"""EDGE-GRPO's entropy-driven advantage (Zhang et al., arXiv 2507.21848).

A confident response counts for more, right or wrong, and an undecided one for less. H_i is the mean token
entropy of response i, H_batch the mean of H_i over the responses that train in the optimiser batch; the
ratio is clamped. Both are of the policy that sampled, and stay so over several updates of a batch: otherwise
a response that an update made more certain would count for more in the next. The paper's guided correction of
wrong responses is not part of this baseline.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.algorithms.base import AdvantageInputs, Algorithm, BatchItem
from trainer.objective.metrics import MetricSums
from trainer.objective.shaping import entropy_ratio, mean_per_response
from trainer.objective.transfer import fetch
from trainer.spec.algorithm import EdgeGrpo
from trainer.spec.modes import Mode


class EdgeGrpoAlgorithm(Algorithm):
    """A_i * clamp(H_batch / H_i, low, high)."""

    spec: EdgeGrpo
    needs_batch_pass = True

    def observe_batch(
        self, batch: Sequence[BatchItem], generator: torch.Generator, metrics: MetricSums
    ) -> None:
        mode = Mode.NORMAL
        scored = [
            mean_per_response(
                item.entropy_T[mode], item.plan.group.response_of_T, len(item.plan.group.rollouts)
            )
            for item in batch
        ]
        per_group: dict[int, Tensor] = {}
        trained: list[Tensor] = []
        for item, entropy_G in zip(batch, fetch(scored), strict=True):
            group = item.plan.group
            per_group[group.index] = entropy_G
            trained.append(entropy_G[item.plan.trains_G[mode] & (group.lengths_G > 0)])
        of_batch = torch.cat(trained)
        mean = float(of_batch.mean()) if of_batch.numel() else 0.0
        self._ratio_T: dict[int, Tensor] = {}
        for item in batch:
            group = item.plan.group
            ratio_G = entropy_ratio(per_group[group.index], mean, self.spec.ratio_low, self.spec.ratio_high)
            self._ratio_T[group.index] = ratio_G[group.response_of_T]

    def shape_advantage(self, tokens: AdvantageInputs, metrics: MetricSums) -> Tensor:
        return tokens.rewarded_T * tokens.plan.own(self._ratio_T[tokens.plan.group.index])
