"""Third phase of a step: one forward and one backward over all rows, then the optimizer.

In the first update of a batch the old log-probabilities are the detached current ones, since no parameter
has changed yet: bonus, advantage and loss all come from the same forward pass, and every ratio is exactly 1.
Further updates keep them.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainer.algorithms.base import BatchItem, GroupPlan
from trainer.distributed.ranks import Ranks
from trainer.model.optim import MasterAdamW
from trainer.model.packing import Layout, packed_positions
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.modes import Mode
from trainer.steps.context import StepContext
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.steps.observation import Observer
from trainer.types import Group

MICRO_BATCH_TOKENS = 4096
"""Positions of a micro-batch: more make matrix products hardly faster, and need memory."""


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
    groups_per_micro_batch: int | None = None,
    divergence_stride: int = 1,
) -> UpdateResult:
    """Train on ``groups`` with ``updates`` optimizer steps; metrics are those of the first.

    Each rank is given all groups and computes its share of them; collective. The divergence between the modes
    is measured at every ``divergence_stride``-th token, with 0 at none.
    """
    ranks = context.ranks
    batch = _Batch(context, groups, groups_per_micro_batch)
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
        optimizer.add_up(ranks)
        started = time.perf_counter()
        grad_norm = optimizer.step(first_update + number)
        result.optimizer_seconds += time.perf_counter() - started
        if first or not _finite(loss, grad_norm):
            result.loss, result.grad_norm = loss, grad_norm
    result.metrics.add_up(ranks)
    for of_rank in ranks.gather(observer.entropy_T):
        result.entropy_T |= of_rank
    result.divergence_seconds = observer.divergence_seconds
    return result


class _Batch:
    """The rows that a step trains, by the algorithm's plans, and this rank's share of them."""

    def __init__(self, context: StepContext, groups: list[Group], groups_per_micro_batch: int | None):
        algorithm, step = context.algorithm, context.step
        self._context = context
        self.modes = algorithm.scored_modes(step)
        self._plans = [algorithm.plan(group) for group in groups]
        weights = algorithm.mode_weights(step)
        self._counts = batch_counts(self._plans, tuple(weights))
        self.trained_tokens = sum(self._counts[mode].tokens for mode, w in weights.items() if w > 0)
        # Groups without any advantage stay among themselves: they are observed, at a third of the cost.
        idle = [plan for plan in self._plans if not plan.has_advantage]
        busy = [plan for plan in self._plans if plan.has_advantage]
        self._micro_batches = [
            micro
            for part in (busy, idle)
            for micro in _micro_batches(
                context.ranks.share(part), self.modes, groups_per_micro_batch, context.policy.layout
            )
        ]
        self._generator = context.generator("update")
        self._old: dict[int, Old] = {}
        """By group, from the first update's forward pass."""

    def backward(self, observer: Observer) -> float:
        """The first forward and backward of all micro-batches: this rank's share of the loss, observed."""
        return self._backward(observer.metrics, observer)

    def backward_again(self) -> float:
        """The same after the weights have changed: against the old log-probabilities of the first."""
        return self._backward(MetricSums(), None)

    def _backward(self, metrics: MetricSums, observer: Observer | None) -> float:
        algorithm, first = self._context.algorithm, observer is not None
        if algorithm.needs_batch_pass and (first or algorithm.observes_every_update):
            self._show_whole_batch(metrics)
        loss = 0.0
        for micro in self._micro_batches:
            total = self._loss(micro, metrics, observer)
            if total.requires_grad:
                total.backward()
            loss += float(total.detach())
            self._context.progress.beat()
        return loss

    def _loss(self, micro: list[GroupPlan], metrics: MetricSums, observer: Observer | None) -> Tensor:
        """A micro-batch's share of the batch loss; a scalar."""
        context, algorithm = self._context, self._context.algorithm
        groups = [plan.group for plan in micro]
        reference_T = self._reference_logp(groups)
        # A group without any advantage has a gradient of exactly zero: its rows are only observed.
        trains = algorithm.trains_without_advantage or any(plan.has_advantage for plan in micro)
        with torch.set_grad_enabled(trains or context.reference is not None):
            scored = score_groups(context.policy, groups, self.modes, context.rollout.temperature)
            total = torch.zeros((), device=context.policy.device)
            for plan, scores, of_reference in zip(micro, scored, reference_T, strict=True):
                if observer is not None:
                    self._old[plan.group.index] = Old.of(scores)
                old = self._old[plan.group.index]
                total = total + group_loss(
                    algorithm, plan, scores, old, self._counts, context.step, metrics, of_reference
                )
                if observer is not None:
                    observer.observe(plan, scores, old.logp_T)
        return total

    @torch.no_grad()
    def _reference_logp(self, groups: list[Group]) -> list[dict[Mode, Tensor] | None]:
        reference = self._context.reference
        if reference is None:
            return [None] * len(groups)
        with reference.as_reference():
            scored = score_groups(reference, groups, self.modes, self._context.rollout.temperature)
        return [{mode: of_mode.logp_T for mode, of_mode in scores.items()} for scores in scored]

    @torch.no_grad()
    def _show_whole_batch(self, metrics: MetricSums) -> None:
        """Score all rows under the weights as they are, for algorithms that choose among them."""
        context, items = self._context, []
        for micro in self._micro_batches:
            groups = [plan.group for plan in micro]
            scored = score_groups(context.policy, groups, self.modes, context.rollout.temperature)
            for plan, scores in zip(micro, scored, strict=True):
                logp_T = {mode: of_mode.logp_T for mode, of_mode in scores.items()}
                entropy_T = {mode: of_mode.entropy_T for mode, of_mode in scores.items()}
                old = self._old.get(plan.group.index)
                items.append(BatchItem(plan, logp_T, entropy_T, old.logp_T if old else None))
            context.progress.beat()
        whole = _of_all_ranks(items, self._plans, context.ranks, context.policy.device)
        context.algorithm.observe_batch(whole, self._generator, metrics)


def _micro_batches(
    plans: Sequence[GroupPlan], modes: tuple[Mode, ...], groups: int | None, layout: Layout
) -> list[list[GroupPlan]]:
    """``plans`` in runs of ``groups``, or of ``MICRO_BATCH_TOKENS`` positions; one group at the least."""
    found: list[list[GroupPlan]] = [[]]
    for plan in plans:
        micro = [*found[-1], plan]
        fits = (
            _positions(micro, modes, layout) <= MICRO_BATCH_TOKENS if groups is None else len(micro) <= groups
        )
        if found[-1] and not fits:
            found.append([])
        found[-1].append(plan)
    return found if plans else []


def _positions(plans: Sequence[GroupPlan], modes: tuple[Mode, ...], layout: Layout) -> int:
    prompts = [len(plan.group.prompt_ids[mode]) for plan in plans for mode in modes]
    responses = [plan.group.lengths_G.tolist() for plan in plans for _ in modes]
    return packed_positions(prompts, responses, layout)


def _of_all_ranks(
    own: list[BatchItem], plans: list[GroupPlan], ranks: Ranks, device: torch.device
) -> list[BatchItem]:
    """The whole batch, in the order of ``plans``, from each rank's share of it."""

    def move(value_T: dict[Mode, Tensor] | None, to: torch.device) -> Any:
        return None if value_T is None else {mode: value.to(to) for mode, value in value_T.items()}

    cpu = torch.device("cpu")
    told = ranks.gather(
        {
            item.plan.group.index: tuple(
                move(value_T, cpu) for value_T in (item.logp_T, item.entropy_T, item.old_logp_T)
            )
            for item in own
        }
    )
    scored = {index: values for of_rank in told for index, values in of_rank.items()}
    return [
        BatchItem(plan, *(move(value_T, device) for value_T in scored[plan.group.index])) for plan in plans
    ]


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
