"""The loss of a group, from an algorithm's decisions: L = sum_M w_M sum_rows m l / N_M."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.algorithms.base import AdvantageInputs, Algorithm, GroupPlan, TokenInputs
from trainer.model.scoring import Scores
from trainer.objective.loss import MAX_LOG_RATIO, BatchCounts, token_weights
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import chosen, onto, placed
from trainer.spec.algorithm import ReferenceKl
from trainer.spec.modes import Mode


@dataclass(frozen=True)
class Given:
    """What tokens under one mode's prompt have from their whole group; shapes (T,), no gradient."""

    advantage_T: Tensor
    """Bonus included."""
    importance_T: Tensor | None
    """omega; None: 1."""

    def own(self, plan: GroupPlan) -> "Given":
        """Those of the tokens of ``plan``, a part of the group."""
        importance_T = self.importance_T
        return Given(plan.own(self.advantage_T), None if importance_T is None else plan.own(importance_T))


@dataclass(frozen=True)
class Old:
    """A group under the policy that sampled it; (T,) per scored mode, no gradient.

    Without entropies the current ones are taken for them.
    """

    logp_T: dict[Mode, Tensor]
    entropy_T: dict[Mode, Tensor] | None = None
    given: dict[Mode, Given] | None = None
    """Of a part of a group: what was formed of the whole; default: it is formed of what is here."""

    @classmethod
    def of(cls, scores: dict[Mode, Scores], given: dict[Mode, Given] | None = None) -> "Old":
        """From scores of before the first update."""
        return cls(
            {mode: of_mode.logp_T.detach() for mode, of_mode in scores.items()},
            {mode: of_mode.entropy_T.detach() for mode, of_mode in scores.items()},
            given,
        )

    def scores(self) -> dict[Mode, Scores]:
        """The scores of the moment that it was of, without hidden states."""
        entropy_T = self.entropy_T or {}
        return {mode: Scores(x, entropy_T[mode], x.new_zeros(len(x), 0)) for mode, x in self.logp_T.items()}


def formed(
    algorithm: Algorithm,
    plan: GroupPlan,
    mode: Mode,
    old_logp_T: dict[Mode, Tensor],
    old_entropy_T: Tensor,
    step: int,
    metrics: MetricSums,
) -> Given:
    """Advantage and weight of the tokens under ``mode``'s prompt, from the sampling policy."""
    inputs = AdvantageInputs(plan, mode, old_logp_T, old_entropy_T, step)
    advantage_T = algorithm.shape_advantage(inputs, metrics)
    return Given(advantage_T, _importance(algorithm, plan, mode, old_logp_T, metrics))


def batch_counts(plans: list[GroupPlan], modes: tuple[Mode, ...]) -> dict[Mode, BatchCounts]:
    """Trained tokens and rows of each mode over the whole optimiser batch."""
    return {mode: sum((plan.counts(mode) for plan in plans), BatchCounts()) for mode in modes}


def group_loss(
    algorithm: Algorithm,
    plan: GroupPlan,
    scores: dict[Mode, Scores],
    old: Old,
    counts: dict[Mode, BatchCounts],
    step: int,
    metrics: MetricSums,
    reference_logp_T: dict[Mode, Tensor] | None = None,
) -> Tensor:
    """A group's share of the batch loss, or that of a part of its responses; a scalar.

    Args:
        scores: current log-probabilities and entropies under each scored mode's prompt.
        old: the group under the policy that sampled it.
        counts: totals of the optimiser batch, so that micro-batches add up.
        reference_logp_T: the same under the reference model, where the objective has a reference-KL.
    """
    response_of_T = plan.group.response_of_T
    length_T = plan.group.lengths_G[response_of_T]
    weights = algorithm.mode_weights(step)
    weighted_tokens = sum(weights[mode] * counts[mode].tokens for mode in weights)
    total = next(iter(scores.values())).logp_T.new_zeros(())
    for mode, weight in weights.items():
        mask_T = plan.trains_G[mode][response_of_T]
        if weight == 0.0 or mode not in scores or not bool(mask_T.any()):
            continue
        logp_T, entropy_T = scores[mode].logp_T, scores[mode].entropy_T
        old_entropy_T = entropy_T.detach() if old.entropy_T is None else old.entropy_T[mode]
        of_group = (
            formed(algorithm, plan, mode, old.logp_T, old_entropy_T, step, metrics)
            if old.given is None
            else old.given[mode]
        )
        tokens = TokenInputs(
            plan,
            mode,
            logp_T,
            old.logp_T[mode],
            entropy_T,
            onto(of_group.advantage_T, logp_T),
            of_group.importance_T,
        )
        token = algorithm.token_loss(tokens)
        loss_T = token.loss_T
        if reference_logp_T is not None and algorithm.objective.reference_kl is not None:
            penalty_T = reference_penalty(logp_T, reference_logp_T[mode], algorithm.objective.reference_kl)
            loss_T = loss_T + algorithm.objective.reference_kl.coefficient * penalty_T
        factor_T = token_weights(
            algorithm.objective.aggregation,
            weight,
            counts[mode],
            weighted_tokens,
            length_T,
            algorithm.max_response_tokens or 1,
        )
        # Masked by selection, not by multiplication: an infinite ratio on an untrained row stays out.
        kept_T = chosen(mask_T, logp_T.device)
        total = total + (loss_T * onto(factor_T, logp_T))[kept_T].sum()
        if token.regularizer_T is not None:
            total = total + weight * token.regularizer_T[kept_T].sum() / max(counts[mode].tokens, 1)
        prefix = f"train/{mode.label}"
        metrics.add_mean(f"{prefix}/clipfrac_low", token.clipped_low_T[kept_T])
        metrics.add_mean(f"{prefix}/clipfrac_high", token.clipped_high_T[kept_T])
        metrics.add_mean(f"{prefix}/advantage_abs", tokens.advantage_T[kept_T].abs())
        if reference_logp_T is not None:
            distance_T = (logp_T - reference_logp_T[mode]).detach()
            metrics.add_mean(f"{prefix}/reference_kl", distance_T[kept_T])
    return total


def reference_penalty(logp_T: Tensor, reference_T: Tensor, spec: ReferenceKl) -> Tensor:
    """k1, k2 or k3 of x = log pi - log ref, per token; shape (T,)."""
    x_T = logp_T - reference_T
    if spec.estimator == "k1":
        return x_T
    if spec.estimator == "k2":
        return x_T**2 / 2
    # Bounded as the importance ratio is: a token that the policy has all but given up stays finite.
    return torch.exp(-x_T.clamp(min=-MAX_LOG_RATIO)) - 1 + x_T


def _importance(
    algorithm: Algorithm,
    plan: GroupPlan,
    mode: Mode,
    old_logp_T: dict[Mode, Tensor],
    metrics: MetricSums,
) -> Tensor | None:
    """omega of the algorithm, times the truncated ratio between trainer and rollout engine on own rows.

    Where responses were held to a form, or sampled by weights of before, the rows under the other prompt are
    weighed by it, too: they train as what the mode which produced them would say by itself, now. (Of a form,
    it is the probability that this mode gives to all tokens that were allowed in a place.)
    """
    importance_T = algorithm.importance(plan, mode, old_logp_T)
    cap = algorithm.rollout_importance_cap
    if not cap:
        return importance_T
    old_T = old_logp_T[mode]
    sampled_T = onto(torch.tensor([x for r in plan.group.rollouts for x in r.logprobs]), old_T)
    weighed_T = plan.group.produced_by(mode)[plan.group.response_of_T]
    own_T = placed(weighed_T, old_T.device)
    if algorithm.off_policy and mode.other in old_logp_T:
        old_T = torch.where(own_T, old_T, old_logp_T[mode.other])
        weighed_T = torch.ones_like(weighed_T)
    ratio_T = torch.exp(old_T - sampled_T)
    trained_T = chosen(weighed_T & plan.trains_G[mode][plan.group.response_of_T], old_T.device)
    metrics.add_mean("rollout/importance_clipped", (ratio_T > cap)[trained_T].double())
    ratio_T = torch.where(placed(weighed_T, old_T.device), ratio_T.clamp(max=cap), torch.ones_like(ratio_T))
    return ratio_T if importance_T is None else importance_T * ratio_T
