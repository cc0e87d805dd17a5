"""What an algorithm decides; the loop does the rest, the same for all of them.

An algorithm chooses the modes that sample, pairs responses with prompts, gives each row its advantage, and
says what a token's loss is. The base class decides as GRPO does; an algorithm overrides what it changes.
``trainer.steps.group_loss`` turns these decisions into the loss of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainer.objective.advantage import group_advantage
from trainer.objective.loss import BatchCounts, TokenLoss, clipped_token_loss
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import placed
from trainer.objective.uniqueness import unique_rewards
from trainer.spec.algorithm import Objective
from trainer.spec.modes import Mode
from trainer.types import Group

DEFAULT_ROLLOUT_IMPORTANCE_CAP = 2.0
"""Where another engine than the trainer's own model samples, whose output layer rounds as it likes."""


@dataclass(frozen=True)
class GroupPlan:
    """What a group trains, known before any forward pass: it depends on rewards alone."""

    group: Group
    advantage_G: dict[Mode, Tensor]
    """Advantages of the responses under each prompt mode; shape (G,)."""
    trains_G: dict[Mode, Tensor]
    """Which responses are rows of each prompt mode; boolean, shape (G,)."""
    part_of: "GroupPlan | None" = None
    """The plan of the whole sampled group, where this is one of some of its responses."""
    tokens_T: Tensor | None = None
    """Which of the whole group's response tokens are the part's own, in ascending order."""

    def counts(self, mode: Mode) -> BatchCounts:
        """Tokens and rows that this group contributes to ``mode``."""
        mask = self.trains_G[mode]
        return BatchCounts(int(self.group.lengths_G[mask].sum()), int(mask.sum()))

    @property
    def has_advantage(self) -> bool:
        """Whether any response is preferred to another."""
        return any(bool(advantage.any()) for advantage in self.advantage_G.values())

    def only(self, responses: Sequence[int]) -> "GroupPlan":
        """The part of a whole plan that consists of these responses, which are in ascending order.

        Its advantages are those that the whole group gave them.
        """
        index = torch.tensor(responses, dtype=torch.long)
        kept_G = torch.zeros(len(self.group.rollouts), dtype=torch.bool)
        kept_G[index] = True
        return GroupPlan(
            replace(self.group, rollouts=[self.group.rollouts[i] for i in responses]),
            {mode: advantage_G[index] for mode, advantage_G in self.advantage_G.items()},
            {mode: trains_G[index] for mode, trains_G in self.trains_G.items()},
            part_of=self,
            tokens_T=kept_G[self.group.response_of_T].nonzero().squeeze(-1),
        )

    def own(self, values_T: Tensor) -> Tensor:
        """Of values of all the sampled group's response tokens, those of the part's own; shapes (T,)."""
        return values_T if self.tokens_T is None else values_T[placed(self.tokens_T, values_T.device)]


@dataclass(frozen=True)
class BatchItem:
    """A group of the optimiser batch as the policy scores it before an update; no gradient.

    ``old_logp_T``: under the policy that sampled; None in the first update, where it is that of the moment.
    """

    plan: GroupPlan
    logp_T: dict[Mode, Tensor]
    entropy_T: dict[Mode, Tensor]
    old_logp_T: dict[Mode, Tensor] | None = None


@dataclass(frozen=True)
class AdvantageInputs:
    """What the advantage of a group's tokens under one mode's prompt may depend on; shapes (T,), no gradient.

    ``old_logp_T`` has every scored mode; ``entropy_T`` is that under the mode's own prompt, nats. Both are of
    the policy that sampled: an advantage stays as it is over several updates of a batch.
    """

    plan: GroupPlan
    mode: Mode
    old_logp_T: dict[Mode, Tensor]
    entropy_T: Tensor
    step: int

    @property
    def rewarded_T(self) -> Tensor:
        """The advantage that rewards alone give, the same for all tokens of a response; on the CPU."""
        return self.plan.advantage_G[self.mode][self.plan.group.response_of_T]


@dataclass(frozen=True)
class TokenInputs:
    """All response tokens of a group, or of whole responses of it, under one mode's prompt; shapes (T,).

    ``logp_T`` and ``entropy_T`` carry gradients, the others do not.
    """

    plan: GroupPlan
    mode: Mode
    logp_T: Tensor
    old_logp_T: Tensor
    entropy_T: Tensor
    advantage_T: Tensor
    importance_T: Tensor | None


class Algorithm:
    """The decisions of one training algorithm. Steps count from 0."""

    needs_batch_pass = False
    """Whether ``observe_batch`` must see the whole batch scored before an update: one more forward pass."""
    observes_every_update = False
    """Whether it must see it before each update of a batch, not the first alone."""
    trains_without_advantage = False
    """Whether a group of equal rewards has a gradient all the same."""

    def needs_group_scores(self, step: int) -> bool:
        """Whether a token's advantage or weight depends on scores of other rows of its group.

        A group of more rows than a micro-batch holds is then scored by a pass of its own before it trains.
        Otherwise ``shape_advantage`` and ``importance`` are given parts of such a group.
        """
        return len(self.scored_modes(step)) > 1

    def __init__(
        self,
        spec: Any,
        max_response_tokens: int | None = None,
        engine: str = "transformers",
        forced: bool = False,
        staleness: int = 0,
    ):
        self.spec = spec
        self.max_response_tokens = max_response_tokens
        self.off_policy = forced or staleness > 0
        """Whether responses are of another distribution than that of the mode which produced them."""
        self._engine = engine

    @property
    def objective(self) -> Objective:
        """The options that all algorithms share."""
        return self.spec

    @property
    def rollout_importance_cap(self) -> float:
        """Of the truncated ratio between trainer and rollout engine; 0: responses are not weighed by it."""
        cap = self.objective.rollout_importance_cap
        if cap is None:  # the trainer's own model samples from the policy itself: the ratio is 1
            itself = self._engine == "transformers" and not self.off_policy
            return 0.0 if itself else DEFAULT_ROLLOUT_IMPORTANCE_CAP
        return cap

    # --- sampling -------------------------------------------------------------------------------------

    def samples(self, step: int, samples_per_prompt: int) -> dict[Mode, int]:
        """How many of a prompt's responses each mode produces."""
        return {Mode.NORMAL: samples_per_prompt}

    def shaped_rewards(self, group: Group) -> Tensor:
        """The rewards that advantages are taken from; shape (G,). Logged rewards stay the grader's."""
        return group.rewards_G

    def keeps(self, group: Group) -> bool:
        """Whether a sampled and graded group is trained; others are replaced by further items."""
        return True

    @property
    def resampling_rounds(self) -> int:
        """How often a step may sample again to replace the groups that ``keeps`` refuses."""
        return 0

    # --- rows and advantages --------------------------------------------------------------------------

    def mode_weights(self, step: int) -> dict[Mode, float]:
        """w_M of each prompt mode that exists."""
        return {Mode.NORMAL: 1.0}

    def scored_modes(self, step: int) -> tuple[Mode, ...]:
        """The prompt modes under which every response's log-probabilities are needed."""
        return (Mode.NORMAL,)

    def plan(self, group: Group) -> GroupPlan:
        """Advantages and rows of a group."""
        return GroupPlan(
            group,
            advantage_G={Mode.NORMAL: self.advantage(self._unique(self.shaped_rewards(group), group))},
            trains_G={Mode.NORMAL: ~group.rewards_G.isnan()},
        )

    def _unique(self, rewards_G: Tensor, group: Group) -> Tensor:
        return unique_rewards(rewards_G, group.answers, self.spec.uniqueness)

    def advantage(self, rewards_G: Tensor) -> Tensor:
        """Advantages of one group's responses; shape (G,)."""
        return group_advantage(rewards_G)

    def observe_batch(
        self, batch: Sequence[BatchItem], generator: torch.Generator, metrics: MetricSums
    ) -> None:
        """See the whole optimiser batch before its first update, or each, where ``needs_batch_pass``.

        ``generator`` serves what is drawn at random.
        """

    def shape_advantage(self, tokens: AdvantageInputs, metrics: MetricSums) -> Tensor:
        """The advantage of every token under the mode's prompt, bonus included; no gradient; shape (T,)."""
        return tokens.rewarded_T

    # --- loss -----------------------------------------------------------------------------------------

    def importance(self, plan: GroupPlan, mode: Mode, old_logp_T: dict[Mode, Tensor]) -> Tensor | None:
        """The factor omega of every token's loss under ``mode``'s prompt; shape (T,)."""
        return None

    def token_loss(self, tokens: TokenInputs) -> TokenLoss:
        """The loss of every token, before masking and weighting; shape (T,)."""
        return clipped_token_loss(
            tokens.logp_T,
            tokens.old_logp_T,
            tokens.advantage_T,
            clip_low=self.spec.clip_low,
            clip_high=self.spec.clip_high,
            importance_T=tokens.importance_T,
        )

    # --- state ----------------------------------------------------------------------------------------

    def schedule_metrics(self, step: int) -> dict[str, float]:
        """Scheduled coefficients, logged at each step."""
        return {"train/weight_N": 1.0}

    def after_step(self, metrics: dict[str, float]) -> None:
        """Controllers move here, once a step."""

    def state(self) -> dict[str, float]:
        """What a resumed run needs of the controllers."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what ``state`` gave."""
