"""One step of a run done again: does it still come to what it came to?

The run goes on from the nearest state before the step, saves nothing and evaluates nothing, and gives the
digest of the step. Where no state is left (a finished run keeps none), the checkpoint right before the step
gives its rollouts and its gradient, but not the weights after it, for want of AdamW's moments; without
that, the run is done again from its beginning.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from safetensors.torch import load_file

from trainer.checkpoints import checkpoint as checkpoints
from trainer.checkpoints.checkpoint import Counters
from trainer.checkpoints.run_folder import RunFolder
from trainer.errors import InvalidSpec
from trainer.graders.spec import StrictModel
from trainer.loop import build_run
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.spec.events import Event, EventWriter, StepDigest, StepMetrics
from trainer.spec.manifest import IncompleteCheckpoint, read_manifest
from trainer.spec.run import RunSpec


class ReplayResult(StrictModel):
    """What came of a replayed step."""

    step: int
    source: Literal["state", "checkpoint", "beginning"]
    from_step: int = Field(description="Steps done in the state it started from")
    digest: StepDigest


def replay(spec: RunSpec, run_dir: Path, step: int) -> ReplayResult:
    """Do ``step`` (from 1) again; raises InvalidSpec for a step that the run does not have."""
    if not 1 <= step <= spec.total_steps:
        raise InvalidSpec(f"there is no step {step}: the run has steps 1 to {spec.total_steps}", "step")
    # An evaluation takes nothing from training: it can be left out.
    spec = spec.model_copy(update={"validation_data": None})
    with _LastDigest() as events:
        folder = _Source(run_dir, spec, events, before=step)
        run = build_run(spec, run_dir, events, folder=folder)
        began = run.counters.step
        run.advance(step)
    assert events.digest is not None
    digest = events.digest
    if folder.source == "checkpoint":
        digest = digest.model_copy(update={"weights": None})
    return ReplayResult(step=step, source=folder.source, from_step=began, digest=digest)


class _LastDigest(EventWriter):
    """Keeps the digest of the last step and nothing else."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))
        self.digest: StepDigest | None = None

    def write(self, event: Event) -> None:
        if isinstance(event, StepMetrics):
            self.digest = event.digest


class _Source(RunFolder):
    """A run's folder, to read from: where the steps before ``before`` left off."""

    def __init__(self, run_dir: Path, spec: RunSpec, events: EventWriter, before: int):
        super().__init__(run_dir, spec, events)
        self._before = before
        self.source: Literal["state", "checkpoint", "beginning"] = "beginning"

    def claim(self) -> None:
        """It is only read."""

    def restore(self, optimizer: MasterAdamW) -> Counters:
        states = checkpoints.step_folders(self._states)
        if self._before - 1 not in states and (counters := self._from_checkpoint(optimizer)):
            self.source = "checkpoint"
            return counters
        counters, self.problems = checkpoints.load_state(self._states, optimizer, up_to=self._before - 1)
        if counters is None:
            return Counters()
        self.source = "state"
        return counters

    def _from_checkpoint(self, optimizer: MasterAdamW) -> Counters | None:
        """Of the step right before; None without one, with LoRA, whose adapter is saved merged, and where
        responses were sampled ahead."""
        folder = self.checkpoints / f"step-{self._before - 1}"
        # Ahead of training, the step's responses are those of weights of before.
        if self._spec.lora is not None or self._spec.rollout.staleness or not folder.is_dir():
            return None
        try:
            manifest = read_manifest(folder, verify=True)
        except IncompleteCheckpoint:
            return None
        if not manifest.counters:
            return None
        weights = {}
        for path in folder.glob("*.safetensors"):
            weights |= load_file(path)
        try:
            optimizer.load_weights(weights)
        except KeyError:  # the model saves its weights under other names than it has them
            return None
        return Counters(**manifest.counters)

    def save(
        self, policy: Policy, optimizer: MasterAdamW, counters: Counters, metrics: dict[str, float]
    ) -> None:
        """Nothing: the run's folder stays as it is."""
