"""What a run keeps on disk, and telling the world of it: checkpoints by the retention rule, state to resume.

Which folders there are and what is in them is ``trainer.checkpoints.checkpoint``'s; here is when they come
and go.
"""

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

from trainer.checkpoints import checkpoint as checkpoints
from trainer.checkpoints.checkpoint import Counters, Score
from trainer.checkpoints.identity import claim_folder
from trainer.checkpoints.shards import BackgroundSave
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import InvalidSpec
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.templates import probe_ids
from trainer.spec.events import CheckpointRemoved, CheckpointSaved, EventWriter
from trainer.spec.manifest import IncompleteCheckpoint, Manifest, read_manifest
from trainer.spec.run import RunSpec

_log = logging.getLogger("trainer")


class RunFolder:
    """``checkpoints/step-N`` and ``state/step-N`` of one run.

    All of ``ranks`` read the state, and so all must see the folder; the first alone writes, but for their
    parts of a sharded state. What follows is collective. A context: at its end no state is being written.
    """

    def __init__(self, run_dir: Path, spec: RunSpec, events: EventWriter, ranks: Ranks = ALONE):
        self._run_dir = run_dir
        self._spec = spec
        self._events = events
        self._ranks = ranks
        self._states = run_dir / "state"
        self.checkpoints = run_dir / "checkpoints"
        self._scores: dict[int, Score] = {}
        """Of each checkpoint that is kept, by step: what the best are chosen by."""
        self._saving = None if ranks.beside is None else BackgroundSave(ranks.beside)
        self.problems: list[str] = []
        """What is wrong with states that ``restore`` passed over."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.settle()
        except BaseException:
            if error is None:
                raise
            _log.exception("the state was not written")

    def settle(self) -> None:
        """Return when no state is being written; raises what went wrong in it."""
        if self._saving is not None:
            self._saving.wait()

    def claim(self) -> None:
        """Write down that the folder is this run's; raises InvalidSpec where it is another's."""
        self._ranks.from_first(lambda: claim_folder(self._run_dir, self._spec))

    def restore(self, optimizer: MasterAdamW) -> Counters:
        """Put the newest undamaged state into the optimizer's model; fresh counters when there is none.

        Of a run that is finished the counters alone: there is nothing left to train.
        """
        if (counters := self._finished()) is None:
            counters, self.problems = checkpoints.load_state(self._states, optimizer, ranks=self._ranks)
        counters = counters or Counters()
        steps = self._ranks.gather(counters.step)
        if len(set(steps)) > 1:
            raise InvalidSpec(
                f"the ranks found states of different steps, {steps}: all must see the same run directory"
            )
        return counters

    def _finished(self) -> Counters | None:
        """What was counted by a run whose last checkpoint is complete."""
        folder = self.checkpoints / f"step-{self._spec.total_steps}"
        try:
            manifest = read_manifest(folder, verify=True)
        except IncompleteCheckpoint:
            return None
        return Counters(**manifest.counters) if manifest.counters else None

    def has_checkpoint(self, step: int) -> bool:
        """Whether a checkpoint of ``step`` was saved or found, and is kept."""
        return self._ranks.from_first(lambda: step in self._scores)

    def last_state(self) -> int:
        """The step that a run which is resumed goes on from."""
        self.settle()
        return self._ranks.from_first(lambda: max(checkpoints.step_folders(self._states), default=0))

    def choose(self) -> tuple[int, str]:
        """The step whose checkpoint is the run's result, and why."""
        return self._ranks.from_first(self._choose)

    def report_existing(self, up_to: int) -> None:
        """Tell of the finished checkpoints of an earlier attempt at this run."""
        self._ranks.from_first(lambda: self._report_existing(up_to))

    def save(
        self, policy: Policy, optimizer: MasterAdamW, counters: Counters, metrics: dict[str, float]
    ) -> None:
        """Write checkpoint and state of ``counters.step``, and drop what they supersede.

        After the last step no state is written: it is several times the size of the model. A sharded one is
        written while training goes on.
        """
        if not self._ranks.first:
            policy.save(None)
        self._ranks.from_first(lambda: self._save(policy, counters, metrics))
        if counters.step < self._spec.total_steps:
            if policy.sharding is not None and self._saving is not None:
                checkpoints.save_parts(self._states, optimizer, counters, self._saving)
            else:
                self._ranks.from_first(lambda: checkpoints.save_state(self._states, optimizer, counters))
        self._ranks.from_first(self._drop_superseded)

    def shelve_state(self) -> None:
        """A finished run needs no resume state."""
        self.settle()
        self._ranks.from_first(lambda: shutil.rmtree(self._states, ignore_errors=True))

    def _report_existing(self, up_to: int) -> None:
        for parent in (self._states, self.checkpoints):
            checkpoints.remove_unfinished(parent)
        before = checkpoints.step_folders(self.checkpoints)
        found = checkpoints.finished_checkpoints(self.checkpoints, up_to=up_to)
        for step, (_, manifest) in found.items():
            self._report(step, manifest)
        for step in before:
            # A later one comes back when its step is done again.
            if step <= up_to and step not in found:
                self._events.write(CheckpointRemoved(step=step))

    def _save(self, policy: Policy, counters: Counters, metrics: dict[str, float]) -> None:
        step = counters.step
        manifest = checkpoints.save_checkpoint(
            self.checkpoints / f"step-{step}",
            policy,
            Manifest(
                run_id=self._spec.run_id,
                step=step,
                base_model=self._spec.model.path,
                algorithm=self._spec.algorithm.type,
                high_entropy_prompt=policy.high_entropy_prompt,
                high_entropy_placement=policy.placement,
                chat_template_kwargs=dict(policy.chat_template_kwargs),
                probe_ids=probe_ids(policy),
                metrics=metrics,
                counters=asdict(replace(counters, batches="")),
                spec=self._spec.model_dump(mode="json"),
            ),
        )
        self._report(step, manifest)
        self._events.sync()

    def _report(self, step: int, manifest: Manifest) -> None:
        folder = self.checkpoints / f"step-{step}"
        self._scores[step] = self._score(manifest)
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

    def _score(self, manifest: Manifest) -> Score:
        metric, best = self._spec.best_metric
        if (value := manifest.metrics.get(metric)) is not None:
            return Score(True, value if best == "highest" else -value)
        return Score(False, manifest.metrics.get("train/N/reward", 0.0))

    def _choose(self) -> tuple[int, str]:
        last, (metric, which) = max(self._scores), self._spec.best_metric
        if self._spec.selects == "last":
            return last, "it is the last one"
        evaluated = {step: score.value for step, score in self._scores.items() if score.evaluated}
        if not evaluated:
            return last, f"it is the last one; no checkpoint has the metric {metric}"
        best = max(evaluated, key=lambda step: (evaluated[step], step))
        of_best, of_last = abs(evaluated[best]), abs(evaluated.get(last, 0.0))
        against = f", against {of_last:.4g} at the last step, {last}" if last in evaluated else ""
        if best == last:
            return best, f"its {metric} is the {which}, {of_best:.4g}, and it is the last one"
        return best, f"its {metric} is the {which}, {of_best:.4g}{against}"

    def _drop_superseded(self) -> None:
        keep_best = self._spec.checkpoint.keep_best
        if self._spec.selects == "best":
            keep_best = max(1, keep_best)
        for step in checkpoints.superseded(self._scores, keep_best):
            del self._scores[step]
            self._events.write(CheckpointRemoved(step=step))
            shutil.rmtree(self.checkpoints / f"step-{step}", ignore_errors=True)
