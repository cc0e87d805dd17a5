"""What every phase of a step works with, handed from the first to the last."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from trainer.algorithms.base import Algorithm
from trainer.distributed.ranks import ALONE, Ranks
from trainer.graders.grade import Grader
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine
from trainer.seeds import generator
from trainer.spec.modes import Mode
from trainer.spec.run import RolloutSpec
from trainer.steps.progress import Progress
from trainer.steps.tally import Tally


@dataclass(frozen=True)
class StepContext:
    """Who samples, grades and trains in a step, and which step it is."""

    step: int
    """How many steps are done: the number, from 0, of the one that comes."""
    policy: Policy
    algorithm: Algorithm
    engine: RolloutEngine
    grader: Grader
    rollout: RolloutSpec
    seed: int
    """The run's. Everything random is a function of it, of a purpose, and of the step."""
    progress: Progress
    ranks: Ranks = ALONE
    """All of them go through a phase together; what is split between them is the phase's affair."""
    positions: int | None = None
    """The largest micro-batch, ``optimizer.tokens_per_micro_batch``; None: the trainer's own."""
    reference: Policy | None = None
    """The model that training began with, where the objective has a penalty on leaving it."""

    tally: Tally = field(default_factory=Tally)
    """Counts what graders do."""
    form: ResponseFormat | None = None
    """That responses must have, where it restricts them (``RunSpec.response_format``)."""

    @property
    def samples(self) -> dict[Mode, int]:
        """How many of a prompt's responses each mode produces in this step."""
        return self.algorithm.samples(self.step, self.rollout.samples_per_prompt)

    @property
    def forced_form(self) -> ResponseFormat | None:
        """The form that responses are held to while they are sampled."""
        return self.form if self.rollout.force_response_format else None

    def generator(self, purpose: str) -> torch.Generator:
        """For what the step draws for one purpose."""
        return generator(self.seed, purpose, self.step)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """The step is in phase ``name`` meanwhile."""
        return self.progress.phase(name, self.step)
