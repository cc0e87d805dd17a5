"""What an update's first forward pass shows besides the loss: entropies, divergences, cross-row ratios.

The weights are still the sampling ones. Nothing here has a gradient.
"""

import time
from functools import partial

import torch
from torch import Tensor

from trainer.algorithms.base import GroupPlan
from trainer.model.divergence import mode_divergences
from trainer.model.logprobs import OutputLayer
from trainer.model.scoring import Scores
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import chosen, placed
from trainer.spec.modes import Mode
from trainer.steps.context import StepContext

NATS_TO_BITS = 1.4426950408889634


class Observer:
    """Gathers metrics of the groups that it is shown.

    The divergence between the modes is measured at every ``divergence_stride``-th token, with 0 at none.
    """

    def __init__(self, context: StepContext, modes: tuple[Mode, ...], divergence_stride: int):
        compares = divergence_stride > 0 and set(Mode) <= set(modes)
        self._compares, self._policy = compares, context.policy
        self._first, self._stride = context.step % max(divergence_stride, 1), divergence_stride
        self._device = context.policy.device
        self.metrics = MetricSums()
        self.entropy_T: dict[int, Tensor] = {}
        """As in ``UpdateResult``, once what is pending in ``metrics`` has been fetched."""
        self.divergence_seconds = 0.0

    @torch.no_grad()
    def observe(self, plan: GroupPlan, scores: dict[Mode, Scores], old_logp_T: dict[Mode, Tensor]) -> None:
        """One group, with its current scores and the log-probabilities that its ratios are taken to."""
        for mode, of_mode in scores.items():
            self._observe_mode(plan, mode, of_mode)
        if set(Mode) <= scores.keys():
            self._observe_cross_rows(plan, old_logp_T)
        if self._compares:
            self._observe_divergence(self._policy.output_layer(), plan, scores)

    def _observe_mode(self, plan: GroupPlan, mode: Mode, scores: Scores) -> None:
        """Entropy and log-probabilities of the responses that ``mode`` produced."""
        group = plan.group
        produced_T = group.produced_by(mode)[group.response_of_T]
        own_T = chosen(produced_T, self._device)
        tokens_T = torch.arange(len(produced_T)) if plan.tokens_T is None else plan.tokens_T
        entropy_T = self.entropy_T.get(group.index)
        if entropy_T is None:
            tokens = int((plan.part_of or plan).group.lengths_G.sum())
            entropy_T = torch.full((tokens,), float("nan"))
            self.entropy_T[group.index] = entropy_T
        own_entropy_T = scores.entropy_T[own_T]
        self.metrics.pending.later(own_entropy_T, partial(_put, entropy_T, tokens_T[produced_T]))
        self.metrics.add_mean(f"train/{mode.label}/entropy_nats", own_entropy_T)
        self.metrics.add_mean(f"train/{mode.label}/entropy_bits", own_entropy_T * NATS_TO_BITS)
        self.metrics.add_mean(f"train/{mode.label}/surprisal", -scores.logp_T[own_T])
        # As the engine scored them when sampling: where the two disagree, rho = 1 is not on-policy.
        sampled_T = torch.tensor([x for r in group.rollouts for x in r.logprobs], dtype=torch.float64)
        gap_T = (scores.logp_T.double() - placed(sampled_T, self._device))[own_T].abs()
        self.metrics.add_mean("rollout/logprob_gap_mean", gap_T)
        self.metrics.add_max("rollout/logprob_gap_max", gap_T)

    def _observe_cross_rows(self, plan: GroupPlan, old_logp_T: dict[Mode, Tensor]) -> None:
        """How far cross rows are off-policy: pi_M / pi_behaviour per token of the rows that train."""
        names = {Mode.HIGH_ENTROPY: "N_on_H", Mode.NORMAL: "H_on_N"}
        response_of_T = plan.group.response_of_T
        for mode, name in names.items():
            cross_T = (plan.trains_G[mode] & plan.group.produced_by(mode.other))[response_of_T]
            off_T = (old_logp_T[mode] - old_logp_T[mode.other])[chosen(cross_T, self._device)]
            ratio_T = torch.exp(off_T.double())
            self.metrics.add_quantile(f"cross/ratio_p99/{name}", ratio_T, 0.99)
            self.metrics.add_mean(f"cross/ratio_mean/{name}", ratio_T)
            self.metrics.add_effective_share(f"cross/ess/{name}", ratio_T)

    def _observe_divergence(self, output: OutputLayer, plan: GroupPlan, scores: dict[Mode, Scores]) -> None:
        """Exact divergences between the modes at some of the tokens."""
        started = time.perf_counter()
        # Counted in the whole group, of which this may be a part.
        tokens: slice | Tensor = slice(self._first, None, self._stride)
        if plan.tokens_T is not None:
            tokens = (plan.tokens_T % self._stride == self._first).nonzero().squeeze(-1)
        there = tokens if isinstance(tokens, slice) else placed(tokens, self._device)
        normal, high = (scores[mode].hidden_TD[there] for mode in Mode)
        divergences = mode_divergences(normal, high, output)
        for mode in Mode:
            produced_T = plan.group.produced_by(mode)[plan.group.response_of_T][tokens]
            own_T = chosen(produced_T, self._device)
            for name, value_T in divergences.items():
                self.metrics.add_mean(f"diag/{name}/prefix_{mode.label}", value_T[own_T])
        self.divergence_seconds += time.perf_counter() - started


def _put(whole_T: Tensor, at: Tensor, values: Tensor) -> None:
    whole_T[at] = values.to(whole_T)
