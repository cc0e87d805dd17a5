"""Third phase of a step: one forward and one backward over all rows, then the optimizer.

In the first update of a batch the old log-probabilities are the detached current ones, since no parameter
has changed yet: bonus, advantage and loss all come from the same forward pass, and every ratio is exactly 1.
Further updates keep them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.algorithms.base import Algorithm, BatchItem, GroupPlan
from trainer.diagnostics.divergence import mode_divergences
from trainer.entropy import NATS_TO_BITS
from trainer.logprobs import OutputLayer
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.objective import batch_counts, group_loss
from trainer.optim import MasterAdamW
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.scoring import Scores, score_groups
from trainer.types import Group

MICRO_BATCH_TOKENS = 4096
"""Packed tokens of a micro-batch: more make matrix products hardly faster, and need memory."""


@dataclass
class UpdateResult:
    """What an update leaves behind for metrics and records."""

    loss: float
    grad_norm: float
    entropy_T: dict[int, Tensor]
    """Per group index: entropy of each response token under its behaviour mode, nats; NaN if not scored."""
    optimizer_seconds: float = 0.0
    divergence_seconds: float = 0.0


def update(
    policy: Policy,
    optimizer: MasterAdamW,
    algorithm: Algorithm,
    groups: list[Group],
    *,
    step: int,
    first_update: int,
    updates: int,
    groups_per_micro_batch: int | None,
    temperature: float,
    max_length: int,
    metrics: MetricSums,
    generator: torch.Generator,
    on_progress: Callable[[], None],
    reference: Policy | None = None,
    divergence_stride: int = 1,
    ranks: Ranks = ALONE,
) -> UpdateResult:
    """Train on ``groups`` with ``updates`` optimizer steps; metrics are those of the first.

    Each of ``ranks`` is given all groups and computes its share of them; joint.
    ``generator`` serves algorithms that draw tokens; ``reference`` is the model of a reference-KL. The
    divergence between the modes is measured at every ``divergence_stride``-th token, with 0 at none.
    """
    modes = algorithm.scored_modes(step)
    plans = [algorithm.plan(group) for group in groups]
    counts = batch_counts(plans, tuple(algorithm.mode_weights(step)))
    # Groups without any advantage stay among themselves: they are observed, at a third of the cost.
    idle = [plan for plan in plans if not plan.has_advantage]
    busy = [plan for plan in plans if plan.has_advantage]
    micro_batches = [
        micro
        for part in (busy, idle)
        for micro in _micro_batches(ranks.share(part), modes, groups_per_micro_batch)
    ]
    kept_old: dict[int, dict[Mode, Tensor]] = {}
    result = UpdateResult(loss=0.0, grad_norm=0.0, entropy_T={})
    output = policy.output_layer() if divergence_stride and set(Mode) <= set(modes) else None
    for number in range(updates):
        first = number == 0
        sums = metrics if first else MetricSums()
        loss = 0.0
        if algorithm.needs_batch_pass:
            own = _score_batch(policy, micro_batches, modes, temperature, on_progress)
            algorithm.observe_batch(_of_all_ranks(own, plans, ranks, policy.device), generator, sums)
        for micro in micro_batches:
            own_groups = [plan.group for plan in micro]
            reference_T = _reference_logp(reference, own_groups, modes, temperature)
            # A group without any advantage has a gradient of exactly zero: its rows are only observed.
            trains = algorithm.trains_without_advantage or any(plan.has_advantage for plan in micro)
            trains = trains or reference is not None
            with torch.set_grad_enabled(trains):
                scored = score_groups(policy, own_groups, modes, temperature)
                total = torch.zeros((), device=policy.device)
                for plan, scores, of_reference in zip(micro, scored, reference_T, strict=True):
                    current = {mode: of_mode.logp_T.detach() for mode, of_mode in scores.items()}
                    old_logp_T = current if first else kept_old[plan.group.index]
                    total = total + group_loss(
                        algorithm, plan, scores, old_logp_T, counts, step, sums, of_reference, max_length
                    )
                    if first:
                        kept_old[plan.group.index] = current
                        _observe(policy, plan, scores, old_logp_T, metrics, result)
                        if output is not None:
                            tokens = slice(step % divergence_stride, None, divergence_stride)
                            seconds = _observe_divergence(output, plan, scores, tokens, metrics)
                            result.divergence_seconds += seconds
            if total.requires_grad:
                total.backward()
            loss += float(total.detach())
            on_progress()
        loss = sum(ranks.gather(loss))
        optimizer.add_up(ranks)
        started = time.perf_counter()
        grad_norm = optimizer.step(first_update + number)
        result.optimizer_seconds += time.perf_counter() - started
        if first or not _finite(loss, grad_norm):
            result.loss, result.grad_norm = loss, grad_norm
    metrics.add_up(ranks)
    for of_rank in ranks.gather(result.entropy_T):
        result.entropy_T |= of_rank
    return result


def _micro_batches(
    plans: Sequence[GroupPlan], modes: tuple[Mode, ...], groups: int | None
) -> list[list[GroupPlan]]:
    """``plans`` in runs of ``groups``, or of ``MICRO_BATCH_TOKENS`` packed tokens; one group at the least."""
    found: list[list[GroupPlan]] = []
    room = 0
    for plan in plans:
        group = plan.group
        size = 1
        if groups is None:
            size = sum(len(group.prompt_ids[mode]) + int(group.lengths_G.sum()) for mode in modes)
        if size > room:
            found.append([])
            room = MICRO_BATCH_TOKENS if groups is None else groups
        found[-1].append(plan)
        room -= size
    return found


@torch.no_grad()
def _score_batch(
    policy: Policy,
    micro_batches: Sequence[list[GroupPlan]],
    modes: tuple[Mode, ...],
    temperature: float,
    on_progress: Callable[[], None],
) -> list[BatchItem]:
    items = []
    for micro in micro_batches:
        scored = score_groups(policy, [plan.group for plan in micro], modes, temperature)
        for plan, scores in zip(micro, scored, strict=True):
            logp_T = {mode: of_mode.logp_T for mode, of_mode in scores.items()}
            entropy_T = {mode: of_mode.entropy_T for mode, of_mode in scores.items()}
            items.append(BatchItem(plan, logp_T, entropy_T))
        on_progress()
    return items


def _of_all_ranks(
    own: list[BatchItem], plans: list[GroupPlan], ranks: Ranks, device: torch.device
) -> list[BatchItem]:
    """The whole batch, in the order of ``plans``, from each rank's share of it."""

    def move(value_T: dict[Mode, Tensor], to: torch.device) -> dict[Mode, Tensor]:
        return {mode: value.to(to) for mode, value in value_T.items()}

    cpu = torch.device("cpu")
    told = ranks.gather(
        {item.plan.group.index: (move(item.logp_T, cpu), move(item.entropy_T, cpu)) for item in own}
    )
    scored = {index: values for of_rank in told for index, values in of_rank.items()}
    return [
        BatchItem(plan, *(move(value_T, device) for value_T in scored[plan.group.index])) for plan in plans
    ]


@torch.no_grad()
def _reference_logp(
    reference: Policy | None, groups: list[Group], modes: tuple[Mode, ...], temperature: float
) -> list[dict[Mode, Tensor] | None]:
    if reference is None:
        return [None] * len(groups)
    with reference.as_reference():
        scored = score_groups(reference, groups, modes, temperature)
    return [{mode: of_mode.logp_T for mode, of_mode in scores.items()} for scores in scored]


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))


@torch.no_grad()
def _observe(
    policy: Policy,
    plan: GroupPlan,
    scores: dict[Mode, Scores],
    old_logp_T: dict[Mode, Tensor],
    metrics: MetricSums,
    result: UpdateResult,
) -> None:
    """Per-mode entropies and log-probabilities of a group, before any parameter changed."""
    group = plan.group
    response_of_T = group.response_of_T
    own_entropy_T = torch.full((len(response_of_T),), float("nan"))
    sampled_T = torch.tensor([x for r in group.rollouts for x in r.logprobs], dtype=torch.float64)
    for mode, of_mode in scores.items():
        produced_T = group.produced_by(mode)[response_of_T]
        on_device = produced_T.to(policy.device)
        own_entropy_T[produced_T] = of_mode.entropy_T[on_device].float().cpu()
        metrics.add_mean(f"train/{mode.label}/entropy_nats", of_mode.entropy_T[on_device])
        metrics.add_mean(f"train/{mode.label}/entropy_bits", of_mode.entropy_T[on_device] * NATS_TO_BITS)
        metrics.add_mean(f"train/{mode.label}/surprisal", -of_mode.logp_T[on_device])
        # Own rows as the engine scored them when sampling: where the two disagree, rho = 1 is not on-policy.
        gap_T = (of_mode.logp_T.double().cpu() - sampled_T)[produced_T].abs()
        metrics.add_mean("rollout/logprob_gap_mean", gap_T)
        metrics.add_max("rollout/logprob_gap_max", gap_T)
    result.entropy_T[group.index] = own_entropy_T
    if set(Mode) <= scores.keys():
        _observe_cross_rows(plan, old_logp_T, metrics)


@torch.no_grad()
def _observe_divergence(
    output: OutputLayer, plan: GroupPlan, scores: dict[Mode, Scores], tokens: slice, metrics: MetricSums
) -> float:
    """Exact divergences between the modes at ``tokens``; returns the seconds it took."""
    started = time.perf_counter()
    normal, high = (scores[mode].hidden_TD[tokens] for mode in Mode)
    divergences = mode_divergences(normal, high, output)
    for mode in Mode:
        prefix_T = plan.group.produced_by(mode)[plan.group.response_of_T][tokens].to(normal.device)
        for name, value_T in divergences.items():
            metrics.add_mean(f"diag/{name}/prefix_{mode.label}", value_T[prefix_T])
    return time.perf_counter() - started


def _observe_cross_rows(plan: GroupPlan, old_logp_T: dict[Mode, Tensor], metrics: MetricSums) -> None:
    """How far cross rows are off-policy: pi_M / pi_behaviour per token of the rows that train."""
    names = {Mode.HIGH_ENTROPY: "N_on_H", Mode.NORMAL: "H_on_N"}
    response_of_T = plan.group.response_of_T
    for mode, name in names.items():
        cross_T = (plan.trains_G[mode] & plan.group.produced_by(mode.other))[response_of_T]
        cross_T = cross_T.to(old_logp_T[mode].device)
        ratio_T = torch.exp((old_logp_T[mode] - old_logp_T[mode.other])[cross_T].double())
        metrics.add_quantile(f"cross/ratio_p99/{name}", ratio_T, 0.99)
        metrics.add_mean(f"cross/ratio_mean/{name}", ratio_T)
        metrics.add_effective_share(f"cross/ess/{name}", ratio_T)
