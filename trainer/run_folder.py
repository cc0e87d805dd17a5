"""What a run keeps on disk, and telling the world of it: checkpoints by the retention rule, state to resume.

Which folders there are and what is in them is ``trainer.checkpoint``'s; here is when they come and go.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

from trainer import checkpoint as checkpoints
from trainer.checkpoint import Counters
from trainer.errors import InvalidSpec
from trainer.events import CheckpointRemoved, CheckpointSaved, EventWriter
from trainer.manifest import IncompleteCheckpoint, Manifest, read_manifest
from trainer.optim import MasterAdamW
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.spec import RunSpec


class RunFolder:
    """``checkpoints/step-N`` and ``state/step-N`` of one run.

    All of ``ranks`` read the state, and so all must see the folder; the first alone writes. What follows is
    joint.
    """

    def __init__(self, run_dir: Path, spec: RunSpec, events: EventWriter, ranks: Ranks = ALONE):
        self._run_dir = run_dir
        self._spec = spec
        self._events = events
        self._ranks = ranks
        self._states = run_dir / "state"
        self._checkpoints = run_dir / "checkpoints"
        self._rewards: dict[int, float] = {}
        """Of each checkpoint that is kept, by step: what the best are chosen by."""
        self.problems: list[str] = []
        """What is wrong with states that ``restore`` passed over."""

    def restore(self, optimizer: MasterAdamW) -> Counters:
        """Put the newest undamaged state into the optimizer's model; fresh counters when there is none.

        Of a run that is finished the counters alone: there is nothing left to train.
        """
        if (counters := self._finished()) is None:
            counters, self.problems = checkpoints.load_state(self._states, optimizer)
        counters = counters or Counters()
        steps = self._ranks.gather(counters.step)
        if len(set(steps)) > 1:
            raise InvalidSpec(
                f"the ranks found states of different steps, {steps}: all must see the same run directory"
            )
        return counters

    def _finished(self) -> Counters | None:
        """What was counted by a run whose last checkpoint is complete."""
        folder = self._checkpoints / f"step-{self._spec.total_steps}"
        try:
            manifest = read_manifest(folder, verify=True)
        except IncompleteCheckpoint:
            return None
        return Counters(**manifest.counters) if manifest.counters else None

    def has_checkpoint(self, step: int) -> bool:
        """Whether a checkpoint of ``step`` was saved or found, and is kept."""
        return self._ranks.from_first(lambda: step in self._rewards)

    def report_existing(self, up_to: int) -> None:
        """Tell of the finished checkpoints of an earlier attempt at this run."""
        self._ranks.from_first(lambda: self._report_existing(up_to))

    def save(
        self, policy: Policy, optimizer: MasterAdamW, counters: Counters, metrics: dict[str, float]
    ) -> None:
        """Write checkpoint and state of ``counters.step``, and drop what they supersede.

        After the last step no state is written: it is several times the size of the model.
        """
        self._ranks.from_first(lambda: self._save(policy, optimizer, counters, metrics))

    def shelve_state(self) -> None:
        """A finished run needs no resume state."""
        self._ranks.from_first(lambda: shutil.rmtree(self._states, ignore_errors=True))

    def _report_existing(self, up_to: int) -> None:
        for parent in (self._states, self._checkpoints):
            checkpoints.remove_unfinished(parent)
        before = checkpoints.step_folders(self._checkpoints)
        found = checkpoints.finished_checkpoints(self._checkpoints, up_to=up_to)
        for step, (_, manifest) in found.items():
            self._report(step, manifest)
        for step in before:
            # A later one comes back when its step is done again.
            if step <= up_to and step not in found:
                self._events.write(CheckpointRemoved(step=step))

    def _save(
        self, policy: Policy, optimizer: MasterAdamW, counters: Counters, metrics: dict[str, float]
    ) -> None:
        step = counters.step
        manifest = checkpoints.save_checkpoint(
            self._checkpoints / f"step-{step}",
            policy,
            Manifest(
                run_id=self._spec.run_id,
                step=step,
                base_model=self._spec.model.path,
                algorithm=self._spec.algorithm.type,
                high_entropy_prompt=policy.high_entropy_prompt,
                high_entropy_placement=policy.placement,
                chat_template_kwargs=dict(policy.chat_template_kwargs),
                metrics=metrics,
                counters=asdict(counters),
                spec=self._spec.model_dump(mode="json"),
            ),
        )
        self._report(step, manifest)
        self._events.sync()
        if step < self._spec.total_steps:
            checkpoints.save_state(self._states, optimizer, counters)
        self._drop_superseded()

    def _report(self, step: int, manifest: Manifest) -> None:
        folder = self._checkpoints / f"step-{step}"
        fallback = manifest.metrics.get("train/N/reward", 0.0)
        self._rewards[step] = manifest.metrics.get("eval/N/reward", fallback)
        self._events.write(
            CheckpointSaved(
                step=step,
                path=folder.relative_to(self._run_dir).as_posix(),
                high_entropy_prompt=manifest.high_entropy_prompt,
                high_entropy_placement=manifest.high_entropy_placement,
                chat_template_kwargs=manifest.chat_template_kwargs,
                manifest_sha256=checkpoints.checkpoint_sha256(folder),
                metrics=manifest.metrics,
            )
        )

    def _drop_superseded(self) -> None:
        for step in checkpoints.superseded(self._rewards, self._spec.checkpoint.keep_best):
            del self._rewards[step]
            self._events.write(CheckpointRemoved(step=step))
            shutil.rmtree(self._checkpoints / f"step-{step}", ignore_errors=True)
