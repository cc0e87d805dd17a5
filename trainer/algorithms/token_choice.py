"""What the baselines have in common that treat some tokens of the optimiser batch unlike the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.algorithms.base import Algorithm, BatchItem, GroupPlan
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import chosen, onto
from trainer.spec.modes import Mode


@dataclass(frozen=True)
class BatchTokens:
    """The trained tokens of an optimiser batch, group after group; shapes (T,), no gradient."""

    logp_T: Tensor
    entropy_T: Tensor
    advantage_T: Tensor
    old_logp_T: Tensor
    """Under the policy that sampled."""


class TokenChoiceAlgorithm(Algorithm):
    """Chooses tokens over the whole optimiser batch before its first update, or before each."""

    needs_batch_pass = True

    def choose(self, tokens: BatchTokens, generator: torch.Generator) -> Tensor:
        """Which tokens are treated unlike the others; boolean on the CPU, shape (T,)."""
        raise NotImplementedError

    def chosen(self, plan: GroupPlan) -> Tensor:
        """The choice among all response tokens of a group or a part, rows that don't train included; (T,)."""
        return plan.own(self._chosen[plan.group.index])

    def observe_batch(
        self, batch: Sequence[BatchItem], generator: torch.Generator, metrics: MetricSums
    ) -> None:
        mode = Mode.NORMAL
        trained = [item.plan.trains_G[mode][item.plan.group.response_of_T] for item in batch]
        logp: list[Tensor] = []
        entropy: list[Tensor] = []
        advantage: list[Tensor] = []
        old: list[Tensor] = []
        for item, trained_T in zip(batch, trained, strict=True):
            on_device = chosen(trained_T, item.logp_T[mode].device)
            logp.append(item.logp_T[mode][on_device])
            entropy.append(item.entropy_T[mode][on_device])
            advantage_T = item.plan.advantage_G[mode][item.plan.group.response_of_T][trained_T]
            advantage.append(onto(advantage_T, logp[-1]))
            old.append((item.old_logp_T or item.logp_T)[mode][on_device])
        tokens = BatchTokens(torch.cat(logp), torch.cat(entropy), torch.cat(advantage), torch.cat(old))
        chosen_T = self.choose(tokens, generator)
        metrics.add_mean(f"train/{mode.label}/tokens_chosen", chosen_T.double())
        self._chosen: dict[int, Tensor] = {}
        parts = torch.split(chosen_T, [int(trained_T.sum()) for trained_T in trained])
        for item, trained_T, part_T in zip(batch, trained, parts, strict=True):
            of_group_T = torch.zeros_like(trained_T)
            of_group_T[trained_T] = part_T
            self._chosen[item.plan.group.index] = of_group_T
