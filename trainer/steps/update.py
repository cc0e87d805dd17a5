"""Third phase of a step: one forward and one backward over all rows, then the optimizer.

In a batch's first update the old log-probabilities are the detached current ones, since no parameter has
changed yet: bonus, advantage and loss all come from the same forward pass, and every ratio is exactly 1.
Further updates keep them.

A group with more rows than a micro-batch holds is trained in parts. If the algorithm computes something from
all its rows (a bonus of both modes' log-probabilities, a z-score over the group), a pass without gradient
scores them first, in micro-batches too; then the rows train with the result. Ratios are those of the
training pass itself, as above, because log-probabilities of two passes differ by rounding.
"""

import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trainer.algorithms.base import BatchItem, GroupPlan
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.scoring import Scores, score_parts, score_rows
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import Total
from trainer.spec.modes import Mode
from trainer.steps.context import StepContext
from trainer.steps.group_loss import Given, Old, batch_counts, formed, group_loss
from trainer.steps.observation import Observer
from trainer.steps.parts import Division, MicroBatch, Pieces, together
from trainer.types import Group


@dataclass
class UpdateResult:
    """What an update leaves behind for metrics and records."""

    learning_rate: float
    trained_tokens: int
    """Over all its optimizer steps."""
    loss: float = 0.0
    grad_norm: float = 0.0
    metrics: MetricSums = field(default_factory=MetricSums)
    entropy_T: dict[int, Tensor] = field(default_factory=dict)
    """Per group index: entropy of each response token under its behaviour mode, nats; NaN if not scored."""
    optimizer_seconds: float = 0.0
    divergence_seconds: float = 0.0


def update(
    context: StepContext,
    optimizer: MasterAdamW,
    groups: list[Group],
    *,
    first_update: int,
    updates: int = 1,
    tokens_per_micro_batch: int | None = None,
    divergence_stride: int = 1,
) -> UpdateResult:
    """Train on ``groups`` with ``updates`` optimizer steps; metrics are those of the first.

    Each rank gets all groups and computes its share of them; collective. A forward pass has
    ``tokens_per_micro_batch`` positions at most, or one response that has more; a group of more is divided
    (``trainer.steps.parts``). The divergence between the modes is measured at every ``divergence_stride``-th
    token, with 0 at none.
    """
    ranks = context.ranks
    batch = _Batch(context, groups, tokens_per_micro_batch)
    observer = Observer(context, batch.modes, divergence_stride)
    result = UpdateResult(
        learning_rate=optimizer.learning_rate(first_update),
        trained_tokens=batch.trained_tokens * updates,
        metrics=observer.metrics,
    )
    for number in range(updates):
        first = number == 0
        loss = batch.backward(observer) if first else batch.backward_again()
        loss = sum(ranks.gather(loss))
        if context.policy.sharding is not None:
            context.policy.sharding.rest()  # the optimizer needs its room
        optimizer.add_up(ranks)
        started = time.perf_counter()
        grad_norm = optimizer.step(first_update + number)
        result.optimizer_seconds += time.perf_counter() - started
        if first or not _finite(loss, grad_norm):
            result.loss, result.grad_norm = loss, grad_norm
    result.metrics.add_up(ranks)
    for of_rank in ranks.gather(observer.entropy_T):
        for index, entropy_T in of_rank.items():
            known_T = result.entropy_T.setdefault(index, entropy_T)
            # A group in parts: each rank knows its own.
            result.entropy_T[index] = torch.where(known_T.isnan(), entropy_T, known_T)
    result.divergence_seconds = observer.divergence_seconds
    return result


class _Batch:
    """The rows that a step trains, by the algorithm's plans, and this rank's share of them."""

    def __init__(self, context: StepContext, groups: list[Group], tokens_per_micro_batch: int | None):
        algorithm, step = context.algorithm, context.step
        self._context = context
        self.modes = algorithm.scored_modes(step)
        self._plans = [algorithm.plan(group) for group in groups]
        weights = algorithm.mode_weights(step)
        self._counts = batch_counts(self._plans, tuple(weights))
        self.trained_tokens = sum(self._counts[mode].tokens for mode, w in weights.items() if w > 0)
        division = Division(self.modes, tokens_per_micro_batch, context.policy.layout, context.ranks)
        # Groups without any advantage stay among themselves: they are observed, at a third of the cost.
        idle = [plan for plan in self._plans if not plan.has_advantage]
        busy = [plan for plan in self._plans if plan.has_advantage]
        self._whole: list[MicroBatch] = []
        self._divided: list[MicroBatch] = []
        self._large: list[GroupPlan] = []
        """Groups that a micro-batch does not hold, and their rows."""
        self._only_scored: list[GroupPlan] = []
        """Those of them that have nothing to train."""
        self._two_passes = algorithm.needs_group_scores(step)
        trained_modes = [mode for mode in self.modes if weights.get(mode, 0.0) != 0.0]
        for plans in (busy, idle):
            small, large = division.by_size(plans)
            self._whole += division.whole(small)
            self._large += large
            if not self._two_passes:
                self._divided += division.scored(large)
            elif plans is busy or algorithm.trains_without_advantage or context.reference is not None:
                self._divided += division.trained(large, trained_modes)
            else:
                self._only_scored = large
        self._scored = division.scored(self._large)
        self._generator = context.generator("update")
        #: Which of the micro-batches have a gradient.
        self._trained = self._having_a_gradient()

    def backward(self, observer: Observer) -> float:
        """The first forward and backward of all micro-batches: this rank's share of the loss, observed."""
        return self._backward(observer.metrics, observer)

    def backward_again(self) -> float:
        """The same after the weights have changed: against the old log-probabilities of the first."""
        return self._backward(MetricSums(), None)

    def _backward(self, metrics: MetricSums, observer: Observer | None) -> float:
        algorithm, first = self._context.algorithm, observer is not None
        if observer is not None and self._two_passes and self._large:
            self._form(metrics, observer)
        if algorithm.needs_batch_pass and (first or algorithm.observes_every_update):
            self._show_whole_batch(metrics)
        loss = Total()
        for micro, trained in zip((*self._whole, *self._divided), self._trained, strict=True):
            total = self._loss(micro, trained, metrics, observer)
            if total.requires_grad:
                total.backward()
            metrics.pending.later(total, loss.add)
            self._context.progress.beat()
        # The only time that a step waits for the device before its optimizer does.
        metrics.pending.fetch()
        return loss.value

    def _having_a_gradient(self) -> list[bool]:
        """Of each micro-batch, whether it has one; of a sharded model, whether any rank's does: collective.

        A group without any advantage has a gradient of exactly zero: its rows are only observed.
        """
        context = self._context
        always = context.algorithm.trains_without_advantage or context.reference is not None
        own = [
            always or any(part.plan.has_advantage for part in micro)
            for micro in (*self._whole, *self._divided)
        ]
        if context.policy.sharding is None:
            return own
        return [any(of_ranks) for of_ranks in zip(*context.ranks.gather(own), strict=True)]

    def _loss(
        self, micro: MicroBatch, trained: bool, metrics: MetricSums, observer: Observer | None
    ) -> Tensor:
        """A micro-batch's share of the batch loss; a scalar."""
        context, algorithm = self._context, self._context.algorithm
        reference_T = self._reference_logp(micro)
        sharded = context.policy.sharding is not None
        with torch.set_grad_enabled(trained):
            if sharded and not micro:
                return score_rows(context.policy, ()).logp_T.sum()
            scored = self._scores(context.policy, micro)
            total = torch.zeros((), device=context.policy.device)
            if sharded:  # its backward pass runs whichever part has a gradient
                total = total + next(iter(scored[0].values())).logp_T[:0].sum()
            for part, scores, of_reference in zip(micro, scored, reference_T, strict=True):
                part.old = part.old or Old.of(scores, part.given)
                total = total + group_loss(
                    algorithm,
                    part.plan,
                    scores,
                    part.old,
                    self._counts,
                    context.step,
                    metrics,
                    of_reference,
                )
                if observer is not None and part.given is None:
                    observer.observe(part.plan, scores, part.old.logp_T)
        return total

    def _scores(self, policy: Policy, micro: MicroBatch) -> list[dict[Mode, Scores]]:
        parts = [(part.plan.group, part.modes) for part in micro]
        return score_parts(policy, parts, self._context.rollout.temperature)

    @torch.no_grad()
    def _reference_logp(self, micro: MicroBatch) -> list[dict[Mode, Tensor] | None]:
        reference = self._context.reference
        if reference is None:
            return [None] * len(micro)
        with reference.as_reference():
            scored = self._scores(reference, micro)
        return [{mode: of_mode.logp_T for mode, of_mode in scores.items()} for scores in scored]

    @torch.no_grad()
    def _form(self, metrics: MetricSums, observer: Observer) -> None:
        """First pass over groups that are trained in parts: what their rows take from the whole group."""
        context, algorithm = self._context, self._context.algorithm
        pieces: Pieces = []
        for micro in self._scored:
            for part, scores in zip(micro, self._scores(context.policy, micro), strict=True):
                pieces.append((part.plan, Old.of(scores)))
                observer.observe(part.plan, scores, pieces[-1][1].logp_T)
            context.progress.beat()
        scored = together(pieces, self._large, context.ranks, context.policy.device)
        # Every rank computes them, one reports it.
        told = metrics if context.ranks.first else MetricSums()
        given: dict[int, dict[Mode, Given]] = {}
        for plan in self._large:
            old = scored[plan.group.index]
            assert old.entropy_T is not None
            given[plan.group.index] = {
                mode: formed(algorithm, plan, mode, old.logp_T, old.entropy_T[mode], context.step, told)
                for mode, weight in algorithm.mode_weights(context.step).items()
                if weight != 0.0 and mode in old.logp_T and bool(_trains(plan, mode))
            }
        for plan in self._only_scored:
            old = replace(scored[plan.group.index], given=given[plan.group.index])
            group_loss(algorithm, plan, old.scores(), old, self._counts, context.step, told)
        for part in (part for micro in self._divided for part in micro):
            of_group = given[part.plan.group.index]
            part.given = {mode: of_group[mode].own(part.plan) for mode in part.modes}

    @torch.no_grad()
    def _show_whole_batch(self, metrics: MetricSums) -> None:
        """Score all rows under the weights as they are, for algorithms that choose among them."""
        context = self._context
        pieces: Pieces = []
        for micro in (*self._whole, *self._scored):
            for part, scores in zip(micro, self._scores(context.policy, micro), strict=True):
                pieces.append((part.plan, Old.of(scores)))
            context.progress.beat()
        parts = [part for micro in (*self._whole, *self._divided) for part in micro]
        sampled: Pieces = [(part.plan, part.old) for part in parts if part.old is not None]
        now, old = (together(x, self._plans, context.ranks, context.policy.device) for x in (pieces, sampled))
        items: list[BatchItem] = []
        for plan in self._plans:
            of_now, of_old = now[plan.group.index], old.get(plan.group.index)
            assert of_now.entropy_T is not None
            items.append(BatchItem(plan, of_now.logp_T, of_now.entropy_T, of_old and of_old.logp_T))
        context.algorithm.observe_batch(items, self._generator, metrics)


def _trains(plan: GroupPlan, mode: Mode) -> Tensor:
    """Whether any token of the group is trained under ``mode``'s prompt."""
    return (plan.trains_G[mode] & (plan.group.lengths_G > 0)).any()


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
