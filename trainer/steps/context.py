"""The context that every phase of a step shares."""

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
    """What samples, grades and trains in a step, and which step it is."""

    step: int
    """Number of steps done, which is the number, from 0, of the next one."""
    policy: Policy
    algorithm: Algorithm
    engine: RolloutEngine
    grader: Grader
    rollout: RolloutSpec
    seed: int
    """The run's. Everything random is a function of it, of a purpose, and of the step."""
    progress: Progress
    ranks: Ranks = ALONE
    """All ranks go through a phase together; each phase decides how to split its work."""
    positions: int | None = None
    """The largest micro-batch, ``optimizer.tokens_per_micro_batch``; None: the trainer's own."""
    reference: Policy | None = None
    """The starting model, if the objective penalises the distance from it."""

    tally: Tally = field(default_factory=Tally)
    """Counts what graders do."""
    form: ResponseFormat | None = None
    """The format that responses must have, if any (``RunSpec.response_format``)."""

    @property
    def samples(self) -> dict[Mode, int]:
        """How many of a prompt's responses each mode produces in this step."""
        return self.algorithm.samples(self.step, self.rollout.samples_per_prompt)

    @property
    def forced_form(self) -> ResponseFormat | None:
        """The format that sampling is constrained to."""
        return self.form if self.rollout.force_response_format else None

    def generator(self, purpose: str) -> torch.Generator:
        """The random generator of the step for one purpose."""
        return generator(self.seed, purpose, self.step)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """The step is in phase ``name`` meanwhile."""
        return self.progress.phase(name, self.step)
