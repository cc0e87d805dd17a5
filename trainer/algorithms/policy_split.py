"""Policy Split (Yao et al., arXiv 2604.11510): the whole method, one decision a function.

1. Half of a prompt's responses come from each mode (``samples``).
2. Every response is trained under both prompts (``plan``; rows in ``trainer.objective.mixing``).
3. The group's advantage is the same number in both modes; the high-entropy mode adds a bonus clamped to
   |A|/kappa (``shape_advantage``; equations in ``trainer.objective.regularizer``). Beyond the paper, its
   advantage may prefer right answers that few others of the group give (``trainer.objective.uniqueness``).
4. Both modes' clipped losses are weighted and added (``mode_weights``; ``trainer.objective.loss``).

Choices that the paper leaves open: with ``sharing: none`` each mode's own responses form its group, for the
advantage and for the bonus's z-score; with one-way sharing and ``none_pooled`` the whole group does.
"""

import torch
from torch import Tensor

from trainer.algorithms.base import AdvantageInputs, Algorithm, GroupPlan
from trainer.objective.advantage import group_advantage
from trainer.objective.metrics import MetricSums
from trainer.objective.mixing import pair_rows
from trainer.objective.regularizer import policy_split_bonus
from trainer.objective.transfer import chosen, onto, placed
from trainer.objective.uniqueness import unique_rewards
from trainer.spec.algorithm import PolicySplit
from trainer.spec.modes import Mode
from trainer.types import Group

CROSS_IMPORTANCE_CAP = 2.0


class PolicySplitAlgorithm(Algorithm):
    """Dual-mode training with a shared set of weights and of rollouts."""

    spec: PolicySplit

    def samples(self, step: int, samples_per_prompt: int) -> dict[Mode, int]:
        chosen = self.spec.high_entropy_samples
        high = samples_per_prompt // 2 if chosen is None else chosen
        if self.spec.freeze_sampling and self._frozen(step):
            high = 0 if self.spec.freeze_mode == Mode.HIGH_ENTROPY else samples_per_prompt
        return {Mode.NORMAL: samples_per_prompt - high, Mode.HIGH_ENTROPY: high}

    def mode_weights(self, step: int) -> dict[Mode, float]:
        weights = {Mode.NORMAL: self.spec.weight_normal, Mode.HIGH_ENTROPY: self.spec.weight_high_entropy}
        if self._frozen(step):
            weights[Mode(self.spec.freeze_mode)] = 0.0
        return weights

    def scored_modes(self, step: int) -> tuple[Mode, ...]:
        weights = self.mode_weights(step)
        needed = {mode for mode, weight in weights.items() if weight > 0 and self._has_rows(mode)}
        if self.spec.cross_importance == "truncated":
            needed = set(Mode)
        for mode in tuple(needed):
            if self._eta(mode, step) != 0 and self.spec.alpha < 1:
                needed.add(mode.other)
        return tuple(mode for mode in Mode if mode in needed)

    def needs_group_scores(self, step: int) -> bool:
        # The bonus is a z-score over the group.
        return super().needs_group_scores(step) or any(self._eta(mode, step) != 0 for mode in Mode)

    def plan(self, group: Group) -> GroupPlan:
        rewards_G = group.rewards_G
        rows = pair_rows([r.behavior_mode for r in group.rollouts], self.spec.sharing)
        advantage_G: dict[Mode, Tensor] = {}
        trains_G: dict[Mode, Tensor] = {}
        for mode in Mode:
            pool_G = self._pool(group, mode)
            advantage_G[mode] = group_advantage(self._explored(group, mode, pool_G), baseline_G=pool_G)
            trains = torch.zeros(len(group.rollouts), dtype=torch.bool)
            for row in rows:
                if row.prompt_mode is mode:
                    dropped = (
                        row.cross
                        and self.spec.cross_negative == "drop"
                        and float(advantage_G[mode][row.response]) < 0
                    )
                    trains[row.response] = not dropped
            trains_G[mode] = trains & ~rewards_G.isnan()
        return GroupPlan(group, advantage_G, trains_G)

    def shape_advantage(self, tokens: AdvantageInputs, metrics: MetricSums) -> Tensor:
        plan, mode = tokens.plan, tokens.mode
        response_of_T = plan.group.response_of_T
        rewarded_T = tokens.rewarded_T
        eta = self._eta(mode, tokens.step)
        if eta == 0:
            return rewarded_T
        own = tokens.old_logp_T[mode]
        other = tokens.old_logp_T.get(mode.other, own)
        rewarded_T = rewarded_T.to(own.dtype)
        advantage_T = onto(rewarded_T, own)
        pool_T = chosen(self._pool(plan.group, mode)[response_of_T], own.device)
        bonus_T = torch.zeros_like(advantage_T)
        bonus_T[pool_T] = policy_split_bonus(
            own[pool_T],
            other[pool_T],
            advantage_T[pool_T],
            eta=eta,
            alpha=self.spec.alpha,
            kappa=self.spec.kappa,
            clip_order=self.spec.clip_order,
        )
        trains_T = plan.trains_G[mode][response_of_T]
        trained_T = chosen(trains_T, own.device)
        size_T = bonus_T[trained_T].abs()
        bound_T = rewarded_T[trains_T].abs() / self.spec.kappa
        if self.spec.clip_order == "outside":
            bound_T = bound_T * abs(eta)
        metrics.add_mean(f"train/{mode.label}/bonus_abs", size_T)
        metrics.add_max(f"train/{mode.label}/bonus_max", size_T)
        # Tokens of a zero-advantage group have a bound of zero: clamped, but nothing was cut off that counts.
        active_T = chosen(bound_T > 0, own.device)
        clipped_T = size_T >= onto(bound_T, own)
        metrics.add_mean(f"train/{mode.label}/bonus_clipfrac", clipped_T[active_T].double())
        return advantage_T + bonus_T

    def importance(self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor]) -> Tensor | None:
        """omega = min(exp(old_logp[M] - old_logp[behaviour]), 2) on cross rows, 1 on own rows."""
        if self.spec.cross_importance == "none":
            return None
        own = placed(plan.group.produced_by(mode)[plan.group.response_of_T], old_logp_T[mode].device)
        ratio_T = torch.exp(old_logp_T[mode] - old_logp_T[mode.other]).clamp(max=CROSS_IMPORTANCE_CAP)
        return torch.where(own, torch.ones_like(ratio_T), ratio_T).detach()

    def schedule_metrics(self, step: int) -> dict[str, float]:
        weights = self.mode_weights(step)
        return {
            "train/weight_N": weights[Mode.NORMAL],
            "train/weight_H": weights[Mode.HIGH_ENTROPY],
            "train/eta": self._eta(Mode.HIGH_ENTROPY, step),
        }

    def _explored(self, group: Group, mode: Mode, pool_G: Tensor) -> Tensor:
        """The rewards that ``mode``'s advantage is taken from; shape (G,)."""
        if mode is Mode.NORMAL or not self.spec.needs_answers:
            return group.rewards_G
        # Counted in the mode's own group: with sharing "none" the other mode's answers are not in it.
        alone_G = torch.where(pool_G, group.rewards_G, torch.nan)
        return unique_rewards(alone_G, group.answers, self.spec.answer_scale)

    def _has_rows(self, mode: Mode) -> bool:
        """Whether any response can train under ``mode``'s prompt."""
        one_mode = self.spec.high_entropy_samples == 0
        return mode is Mode.NORMAL or not one_mode or self.spec.sharing in ("both", "n_to_h")

    def _frozen(self, step: int) -> bool:
        return self.spec.freeze_step is not None and step >= self.spec.freeze_step

    def _eta(self, mode: Mode, step: int) -> float:
        eta = self.spec.eta if mode is Mode.HIGH_ENTROPY else self.spec.eta_normal
        return eta * min(1.0, (step + 1) / self.spec.eta_warmup_steps)

    def _pool(self, group: Group, mode: Mode) -> Tensor:
        """The responses that form ``mode``'s group; boolean, shape (G,)."""
        if self.spec.sharing == "none":
            return group.produced_by(mode)
        return torch.ones(len(group.rollouts), dtype=torch.bool)
