"""What an algorithm decides; the loop does the rest, the same for all of them.

An algorithm chooses the modes that sample, pairs responses with prompts, gives each row its advantage, and
says how token losses are weighted. ``objective`` turns these choices into the loss of a group.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.loss import BatchCounts, clipped_token_loss, token_weights
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.spec import Aggregation
from trainer.types import Group


@dataclass(frozen=True)
class GroupPlan:
    """What a group trains, known before any forward pass: it depends on rewards alone."""

    group: Group
    advantage_G: dict[Mode, Tensor]
    """Advantages of the responses under each prompt mode; shape (G,)."""
    trains_G: dict[Mode, Tensor]
    """Which responses are rows of each prompt mode; boolean, shape (G,)."""

    def counts(self, mode: Mode) -> BatchCounts:
        """Tokens and rows that this group contributes to ``mode``."""
        mask = self.trains_G[mode]
        return BatchCounts(int(self.group.lengths_G[mask].sum()), int(mask.sum()))


class Algorithm(Protocol):
    """The decisions of one training algorithm. Steps count from 0."""

    aggregation: Aggregation
    clip_low: float
    clip_high: float

    def samples(self, step: int, samples_per_prompt: int) -> dict[Mode, int]:
        """How many of a prompt's responses each mode produces."""
        ...

    def mode_weights(self, step: int) -> dict[Mode, float]:
        """w_M of each prompt mode that exists."""
        ...

    def scored_modes(self, step: int) -> tuple[Mode, ...]:
        """The prompt modes under which every response's log-probabilities are needed."""
        ...

    def plan(self, group: Group) -> GroupPlan:
        """Advantages and rows of a group."""
        ...

    def shape_advantage(
        self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor], step: int, metrics: MetricSums
    ) -> Tensor:
        """The advantage of every token under ``mode``'s prompt, bonus included; no gradient; shape (T,)."""
        ...

    def importance(self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor]) -> Tensor | None:
        """The factor omega of every token's loss under ``mode``'s prompt; shape (T,)."""
        ...

    def schedule_metrics(self, step: int) -> dict[str, float]:
        """Scheduled coefficients, logged at each step."""
        ...


def batch_counts(plans: list[GroupPlan], modes: tuple[Mode, ...]) -> dict[Mode, BatchCounts]:
    """Trained tokens and rows of each mode over the whole optimiser batch."""
    return {mode: sum((plan.counts(mode) for plan in plans), BatchCounts()) for mode in modes}


def objective(
    algorithm: Algorithm,
    plan: GroupPlan,
    logp_T: dict[Mode, Tensor],
    old_logp_T: dict[Mode, Tensor],
    counts: dict[Mode, BatchCounts],
    step: int,
    metrics: MetricSums,
) -> Tensor:
    """A group's share of the batch loss L = sum_M w_M sum_rows m l / N_M; a scalar.

    Args:
        logp_T: current log-probabilities of all response tokens under each scored mode's prompt, (T,).
        old_logp_T: the same under the policy that sampled, without gradient.
        counts: totals of the optimiser batch, so that micro-batches add up.
    """
    group = plan.group
    response_of_T = group.response_of_T
    length_T = group.lengths_G[response_of_T]
    weights = algorithm.mode_weights(step)
    weighted_tokens = sum(weights[mode] * counts[mode].tokens for mode in weights)
    total = torch.zeros(())
    for mode, weight in weights.items():
        mask_T = plan.trains_G[mode][response_of_T]
        if weight == 0.0 or mode not in logp_T or not bool(mask_T.any()):
            continue
        logp, old_logp = logp_T[mode], old_logp_T[mode]
        advantage_T = algorithm.shape_advantage(plan, mode, old_logp_T, step, metrics).to(logp)
        token = clipped_token_loss(
            logp,
            old_logp,
            advantage_T,
            clip_low=algorithm.clip_low,
            clip_high=algorithm.clip_high,
            importance_T=algorithm.importance(plan, mode, old_logp_T),
        )
        factor_T = token_weights(algorithm.aggregation, weight, counts[mode], weighted_tokens, length_T)
        # Masked by selection, not by multiplication: an infinite ratio on an untrained row stays out.
        kept_T = mask_T.to(logp.device)
        total = total.to(logp) + (token.loss_T * factor_T.to(logp))[kept_T].sum()
        prefix = f"train/{mode.label}"
        metrics.add_mean(f"{prefix}/clipfrac_low", token.clipped_low_T[kept_T])
        metrics.add_mean(f"{prefix}/clipfrac_high", token.clipped_high_T[kept_T])
        metrics.add_mean(f"{prefix}/advantage_abs", advantage_T[kept_T].abs())
    return total
