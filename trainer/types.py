"""The values that pass between the phases of a step.

Axis suffixes of tensor names, used throughout the trainer::

    _G  responses of a group (one prompt)        _T  response tokens of a group, response after response
    _L  positions of a packed row                _B  packed rows of a micro-batch
    _D  hidden size                              _V  vocabulary
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.spec.modes import Message, Mode


@dataclass
class Rollout:
    """One sampled response and who produced it."""

    behavior_mode: Mode
    response_ids: list[int]
    """Token ids with the end-of-turn token where the model produced it."""
    logprobs: list[float]
    """Nats under the behaviour mode, from the rollout engine."""
    truncated: bool
    text: str = ""
    reward: float | None = None
    """In [0, 1]; None where the grader failed: such a response is left out of training."""
    scores: dict[str, float] = field(default_factory=dict)
    parse_error: str | None = None
    """Why it is not of the run's ``response_format``."""
    answer: str | None = None
    """What it answers, in the grader's normal form: equal texts are the same answer. None: no answer."""
    thought_tokens: int = 0
    """Tokens of its thoughts, with the mark that ends them; the answer is what follows. 0: no thoughts."""


@dataclass
class Group:
    """One prompt, its token ids in each mode, and the responses sampled for it."""

    index: int
    item_index: int
    item: dict[str, object]
    messages: list[Message]
    prompt_ids: dict[Mode, list[int]]
    rollouts: list[Rollout] = field(default_factory=list)
    tools: list[dict[str, object]] | None = None
    """Those that the prompt tells of."""

    @property
    def rewards_G(self) -> Tensor:
        """Rewards, float64, NaN where there is none; shape (G,)."""
        values = [float("nan") if r.reward is None else r.reward for r in self.rollouts]
        return torch.tensor(values, dtype=torch.float64)

    @property
    def answers(self) -> list[str | None]:
        """What each response answers."""
        return [r.answer for r in self.rollouts]

    @property
    def lengths_G(self) -> Tensor:
        """Response lengths in tokens; shape (G,)."""
        return torch.tensor([len(r.response_ids) for r in self.rollouts], dtype=torch.long)

    @property
    def response_of_T(self) -> Tensor:
        """Index of the response that each token belongs to; shape (T,)."""
        lengths = self.lengths_G
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)

    def produced_by(self, mode: Mode) -> Tensor:
        """Which responses ``mode`` produced; boolean, shape (G,)."""
        return torch.tensor([r.behavior_mode is mode for r in self.rollouts], dtype=torch.bool)
