"""What every run does, whatever it learns from: it begins, steps, saves, stops when asked, and tells of it.

``trainer.loop`` learns from rewards of what it samples, ``trainer.runs.taught`` from rows that say what to
answer; both are such a run and have only their steps of their own.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import torch

from trainer.checkpoints.checkpoint import Counters
from trainer.checkpoints.digest import weights_sha256
from trainer.checkpoints.run_folder import RunFolder
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import InvalidSpec
from trainer.evaluation.prompts import Dropped
from trainer.evaluation.trial import try_checkpoint
from trainer.model.optim import MasterAdamW
from trainer.model.packed_linear import widens_bfloat16
from trainer.model.policy import Policy, load_policy, shard
from trainer.spec.events import EventWriter, Finished, Grading, Started, StepDigest, StepMetrics, Stopped
from trainer.spec.memory_plan import Device, doubt, memory_options, memory_plan, refusal
from trainer.spec.model_size import model_size
from trainer.spec.run import RunSpec
from trainer.steps.progress import Progress, StopAsked, StoppedWithin
from trainer.system.memory import MemoryWatch, device_memory


class BaseRun(ABC):
    """One training run. Building it loads everything and refuses a spec that cannot work.

    Who inherits it sets ``policy`` by :meth:`_load_policy`, then ``_optimizer`` and ``counters`` by
    :meth:`_restore`.
    """

    policy: Policy
    counters: Counters
    _optimizer: MasterAdamW
    _memory: MemoryWatch

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        events: EventWriter,
        stop: threading.Event | None,
        ranks: Ranks = ALONE,
        folder: RunFolder | None = None,
    ):
        self.spec = spec
        self._events = events
        self._stop = stop or threading.Event()
        self._ranks = ranks
        self._folder = folder or RunFolder(run_dir, spec, events, ranks)
        self._progress = Progress(events.write)
        self._notes: list[str] = []
        self._dropped: list[Dropped] = []

    def _load_policy(self) -> None:
        """Take the folder and load the model."""
        spec = self.spec
        self._check_memory()
        self._folder.claim()
        self.policy = load_policy(
            spec.model,
            spec.high_entropy_prompt,
            placement=spec.high_entropy_placement,
            chat_template_kwargs=spec.chat_template_kwargs,
            lora=spec.lora,
            seed=spec.seed,
            to_shard=self._to_shard,
        )
        if self._to_shard:
            shard(self.policy)

    @property
    def _to_shard(self) -> bool:
        """Whether each rank has a part of the weights alone."""
        return self._ranks.world > 1 and self.spec.optimizer.sharding == "sharded"

    def _check_memory(self) -> None:
        """Raises InvalidSpec where the device is too small for what the run has whatever its data."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        cpu = device.type == "cpu"
        has = Device(cpu, device_memory(device), cpu and widens_bfloat16())
        try:
            size = model_size(Path(self.spec.model.path))
        except InvalidSpec:
            return  # what loads the model says what is wrong with its folder
        plan = memory_plan(self.spec, size, has, self._ranks.world, sharded=self._to_shard)
        options = memory_options(self.spec, size, has, self._ranks.world, sharded=self._to_shard)
        if problem := refusal(plan, has, options):
            raise InvalidSpec(problem, "model")
        if told := doubt(plan, has):
            self._notes.append(told)

    def _restore(self) -> None:
        """The optimizer, with what a state of the folder has."""
        self._optimizer = MasterAdamW(self.policy.model, self.spec.optimizer)
        self.counters = self._folder.restore(self._optimizer)
        self._memory = MemoryWatch(self.policy.device)

    # --- what each kind of run has of its own --------------------------------------------------------------

    @abstractmethod
    def _resources(self) -> Sequence[AbstractContextManager[object]]:
        """What is to be closed when the run ends."""

    @abstractmethod
    def _begin(self) -> None:
        """What comes before the first step. On StopAsked nothing is lost: all of it is done again."""

    @abstractmethod
    def _step(self) -> None:
        """One step: trained, counted, told of, and saved where that is due."""

    @abstractmethod
    def _evaluated(self) -> dict[str, float]:
        """The metrics of an evaluation of the weights as they are; none where there was none."""

    # --- from the first step to the last -------------------------------------------------------------------

    @property
    def result_step(self) -> int:
        """The step whose checkpoint is the result: that of a finished run is chosen, else it is the last."""
        finished = self.counters.step == self.spec.total_steps
        return self._folder.choose()[0] if finished else self.counters.step

    def run(self) -> bool:
        """Train to the last step; True when finished, False when asked to stop before. Once a Run."""
        with self._open():
            return self._train()

    def advance(self, to: int) -> None:
        """Do the steps up to number ``to`` and no more (``trainer.replay``). In place of :meth:`run`."""
        with self._open():
            while self.counters.step < to:
                self._step()

    def _open(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(self._folder)
        for resource in self._resources():
            stack.enter_context(resource)
        return stack

    def _train(self) -> bool:
        self._announce()
        try:
            if self.counters.step == 0 and not self._folder.has_checkpoint(0):
                self._begin()
            while self.counters.step < self.spec.total_steps:
                self._stop_if_asked()
                self._step()
        except StoppedWithin:
            return self._stopped(self._folder.last_state())
        except StopAsked:
            return self._stopped(self.counters.step)
        if self.spec.total_steps == 0 and not self._folder.has_checkpoint(0):
            self._save_checkpoint({})
        chosen, reason = self._folder.choose()
        self._folder.shelve_state()
        self._events.write(
            Finished(
                step=self.counters.step,
                trained_tokens=self.counters.trained_tokens,
                result_step=chosen,
                reason=reason,
                peak_memory_bytes=self._memory.peak(),
            )
        )
        return True

    def _stop_if_asked(self) -> None:
        if self._ranks.any(self._stop.is_set()):
            raise StopAsked

    def _phase(self, name: str) -> AbstractContextManager[None]:
        """The coming step is in phase ``name`` meanwhile."""
        return self._progress.phase(name, self.counters.step)

    # --- checkpoints ---------------------------------------------------------------------------------------

    def _due(self, interval: int) -> bool:
        step = self.counters.step
        return step == self.spec.total_steps or (interval > 0 and step % interval == 0)

    def _try_to_save(self) -> None:
        """What would go wrong at the first checkpoint goes wrong here."""
        if not self._ranks.first:
            self.policy.save(None)
        self._ranks.from_first(lambda: try_checkpoint(self.policy, self._folder.checkpoints))

    def _save_checkpoint(self, values: dict[str, float]) -> None:
        with self._phase("checkpoint"):
            self._folder.save(self.policy, self._optimizer, self.counters, values | self._evaluated())

    def _weights_sha256(self) -> str | None:
        """Of the step just counted, where its checkpoint is saved; the first rank's, collective."""
        if not self._due(self.spec.checkpoint.interval):
            return None
        weights = self._optimizer.whole_masters()
        if self._ranks.first:
            return weights_sha256(weights)
        if self.policy.sharding is not None:
            for _ in weights:  # the first needs this rank's parts
                pass
        return None

    # --- beginning, end, and what is told in between -------------------------------------------------------

    def _announce(self) -> None:
        self._events.write(
            Started(
                step=self.counters.step,
                total_steps=self.spec.total_steps,
                parameters=self.policy.parameters,
                device=str(self.policy.device),
            )
        )
        for note in self._notes:
            self._progress.say(note)
        for dropped in self._dropped:
            self._progress.say(dropped.message, level="warn", data=dropped.data)
        if self.policy.adapted:
            trained, frozen = self._optimizer.trained, self.policy.parameters
            self._progress.say(f"LoRA trains {trained:,} weights; {frozen - trained:,} are frozen.")
        for problem in self._folder.problems:
            self._progress.say(f"{problem}; resuming after step {self.counters.step}", level="warn")
        self._folder.report_existing(up_to=self.counters.step)

    def _stopped(self, step: int) -> bool:
        if step == self.counters.step and step and not self._folder.has_checkpoint(step):
            self._save_checkpoint({})
        self._folder.settle()
        self._events.write(Stopped(step=step, trained_tokens=self.counters.trained_tokens))
        return False

    def _write_metrics(
        self,
        values: dict[str, float],
        digest: StepDigest | None = None,
        train: Sequence[Grading] = (),
        valid: Sequence[Grading] = (),
    ) -> None:
        self._events.write(
            StepMetrics(
                step=self.counters.step,
                total_steps=self.spec.total_steps,
                values=values,
                digest=digest,
                train=list(train),
                valid=list(valid),
            )
        )
