"""A run from its spec to its last checkpoint, and the path of a step through it, from top to bottom.

::

    training_data
         │ Collector: ItemOrder, build_group
         ▼
    Group: a prompt's token ids in both modes
         │ sample_groups (engine)
         ▼
    Rollouts: response ids of both modes, log-probabilities
         │ grade_groups (grader)
         ▼
    rewards ─ collect_groups ─▶ dropped: replaced by further items
         │ Algorithm.plan
         ▼
    GroupPlan: which response is a row under which prompt, advantages by reward
         │ score_parts (policy): one forward pass over the rows of both prompts; where a group has more rows
         │                       than a micro-batch, they are scored first and train in parts (steps/parts.py)
         ▼
    Scores: log-probabilities and entropies with gradients ─ Observer ─▶ entropies, divergences
         │ Algorithm.shape_advantage: the bonus; Algorithm.token_loss; group_loss: masks and weights
         ▼
    loss ─ backward ─▶ MasterAdamW ─ engine.sync ─▶ the next step samples from these weights
         │ step_metrics, rollout_records, step_digest
         ▼
    events.jsonl, checkpoints

The phases share a ``StepContext``. Several ranks (``trainer.distributed.ranks``) go through them together;
usually there is only one process. Everything random is a function of (seed, step, index), so a run that is
killed and resumed from its state continues exactly as if nothing had happened.
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict
from pathlib import Path

from trainer.algorithms import build_algorithm
from trainer.checkpoints.digest import step_digest
from trainer.checkpoints.run_folder import RunFolder
from trainer.data.items import Item, ItemOrder, Kept, load_items
from trainer.diagnostics.probe_set import ProbeSet
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import GuardTripped, InvalidSpec
from trainer.evaluation.evaluations import Evaluations
from trainer.evaluation.forms import check_forced
from trainer.evaluation.preflight import preflight
from trainer.evaluation.prompts import MADE_ON_DEMAND, fit_prompts
from trainer.evaluation.trial import try_rollout
from trainer.graders.answers import WITHOUT_VOTES
from trainer.graders.custom import RewardFunction, choose_grader
from trainer.graders.formatted import with_format
from trainer.graders.grade import GradedElsewhere, Grader
from trainer.model.embedding import load_encoder
from trainer.model.policy import load_reference
from trainer.model.templates import fit_template
from trainer.rollout import build_engine
from trainer.rollout.engine import RolloutEngine
from trainer.runs.base import BaseRun
from trainer.runs.engine_choice import with_engine
from trainer.runs.taught import TaughtRun
from trainer.spec.data import JsonlData
from trainer.spec.events import (
    EventWriter,
    Grading,
    Rollouts,
    StepDigest,
)
from trainer.spec.modes import Mode
from trainer.spec.run import RunSpec
from trainer.spec.taught import Taught
from trainer.steps.ahead import Batches
from trainer.steps.collection import Collector
from trainer.steps.context import StepContext
from trainer.steps.guards import check_finite, observe_modes, watch
from trainer.steps.records import rollout_records
from trainer.steps.resampling import Collected
from trainer.steps.step_metrics import step_metrics
from trainer.steps.tally import Tally
from trainer.steps.update import UpdateResult, update
from trainer.types import Group


class Run(BaseRun):
    """A run that learns from the rewards of what it samples."""

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        events: EventWriter,
        stop: threading.Event | None = None,
        reward: RewardFunction | None = None,
        ranks: Ranks = ALONE,
        folder: RunFolder | None = None,
    ):
        spec = with_engine(spec, run_dir)
        super().__init__(spec, run_dir, events, stop, ranks, folder)
        self._training = load_items(spec.training_data, "training_data")
        self._validation = (
            load_items(spec.validation_data, "validation_data") if spec.validation_data else None
        )
        self._load_policy()
        assert not isinstance(spec.algorithm, Taught), "a run of trainer.runs.taught"
        self._algorithm = build_algorithm(
            spec.algorithm,
            spec.rollout.max_response_tokens,
            spec.rollout.engine,
            forced=spec.rollout.force_response_format,
            staleness=spec.rollout.staleness,
        )
        self._notes += fit_template(
            self.policy,
            {"training_data": self._training, "validation_data": self._validation or []},
            needs_high_entropy=self._needs(Mode.HIGH_ENTROPY),
        )
        self._training = self._fit_prompts(self._training, "training_data")
        if self._validation is not None:
            self._validation = self._fit_prompts(self._validation, "validation_data")
        if spec.response_format is not None and spec.rollout.force_response_format:
            check_forced(self.policy, spec.response_format, self._training)
        # The starting model, if the objective penalises the distance from it.
        penalty = self._algorithm.objective.reference_kl
        self._reference = None if penalty is None else load_reference(spec.model, self.policy)
        self._probes = ProbeSet(spec, self.policy, self._algorithm, self._validation or self._training)
        embedding_model = spec.evaluation.embedding_model
        encoder = load_encoder(embedding_model, self.policy.device) if embedding_model else None
        self._evaluations = Evaluations(spec, self._validation, encoder, events)
        self._restore()
        self._batches = Batches(
            Collector(spec, self._training, events, self._stop),
            self._context,
            staleness=spec.rollout.staleness,
            total_steps=spec.total_steps,
            saved=self.counters.batches,
        )
        # With the weights of the state.
        self._engine: RolloutEngine = build_engine(spec, self.policy, self._stop.is_set, ranks)
        self._algorithm.load_state(self.counters.algorithm_state)
        # Last, because it may start threads and processes, which run() ends.
        self._grader = ranks.on_first(lambda: self._build_grader(reward), GradedElsewhere)
        if (
            spec.validation_data
            and spec.evaluation.samples_per_item > 1
            and not (self._grader.gives_answers or encoder)
        ):
            self._notes.append(f"Evaluations have no maj@k: {WITHOUT_VOTES}.")

    def _build_grader(self, reward: RewardFunction | None) -> Grader:
        """Raises InvalidSpec, also if a reference makes grading impossible; it names the line."""
        grader = with_format(choose_grader(self.spec.grader, reward), self.spec.response_format)
        if self._algorithm.objective.needs_answers and not grader.gives_answers:
            grader.close()
            raise InvalidSpec(
                "the algorithm prefers answers that few responses give, but the reward function does not "
                "extract answers: give it a method answer(item, text)",
                "grader",
            )
        for param, items in (("training_data", self._training), ("validation_data", self._validation)):
            if not isinstance(getattr(self.spec, param), JsonlData):  # a task's items have their own scorer
                continue
            if problem := grader.item_problem([item.fields for item in items or []]):
                grader.close()
                index, reason = problem
                raise InvalidSpec(f"{(items or [])[index].where}: {reason}", param)
        return grader

    def _fit_prompts(self, items: Sequence[Item], param: str) -> Kept:
        spec = self.spec
        drawn = ItemOrder(len(items), spec.seed).take(0, min(len(items), MADE_ON_DEMAND))
        kept, dropped = fit_prompts(
            self.policy,
            items,
            param,
            modes=[mode for mode in Mode if self._needs(mode)],
            rollout=spec.rollout,
            overlong=spec.overlong_prompts,
            drawn=drawn if param == "training_data" else None,
        )
        if dropped is not None:
            self._dropped.append(dropped)
        return kept

    def _needs(self, mode: Mode) -> bool:
        """Whether the run ever samples from ``mode`` or scores under its prompt."""
        steps = (0, max(self.spec.total_steps - 1, 0))
        samples = self.spec.rollout.samples_per_prompt
        return any(
            self._algorithm.samples(step, samples).get(mode) or mode in self._algorithm.scored_modes(step)
            for step in steps
        )

    def _resources(self) -> Sequence[AbstractContextManager[object]]:
        return closing(self._engine), closing(self._grader)

    def _evaluated(self) -> dict[str, float]:
        return self._evaluations.values_of(self.counters.step)

    def _begin(self) -> None:
        # Ranks that wait for each other stop only between two phases.
        alone = self._ranks.world == 1
        with self._progress.giving_up(lambda: alone and self._stop.is_set()):
            self._try_the_model()
            self._stop_if_asked()
            self._try_the_grader()
            self._stop_if_asked()
            if values := self._evaluations.run(self._context()):
                self._tell(values)

    def _try_the_model(self) -> None:
        """Problems with the first rollout or checkpoint surface here."""
        if self.spec.total_steps == 0:
            return
        context = self._context()
        with context.phase("preflight"):
            gap = try_rollout(context, self._training)
            self._try_to_save()
        if gap.notable:
            self._progress.say(
                f"Log-probabilities at sampling and at scoring differ by {gap.mean:.2g} nats per token on "
                f"average ({gap.largest:.2g} at most); training treats them as equal.",
                level="warn",
                data={"trial": asdict(gap)},
            )

    def _try_the_grader(self) -> None:
        spec, context = self.spec.preflight, self._context()
        if spec is None or spec.samples == 0 or self.spec.total_steps == 0:
            return
        with context.phase("preflight"):
            preflight(context, self._training, spec)

    # --- one step, from top to bottom ---------------------------------------------------------------------

    def _step(self) -> None:
        self._progress.begin_step()
        # Probes are not part of the step, and neither is their grading.
        probed = self._probe(self._context())
        context, counters = self._context(), self.counters
        batch = self._batches.take(context.step, counters.items)
        if not self._batches.sample_ahead(context.step, counters.items, self._engine):
            self._engine.rest()
        collected = batch.collected
        result = self._update(context, collected.kept)
        probed |= self._batches.join(context)
        with context.phase("sync"):
            self._engine.sync()
        for note in self._engine.notes():
            self._progress.say(f"step {context.step + 1}: {note}", level="warn")
        values = step_metrics(context, collected, result) | probed
        if self.spec.rollout.staleness:
            values["train/rollout_age"] = float(batch.age)
        self._count(collected, result)
        self._algorithm.after_step(values)
        self.counters.algorithm_state = self._algorithm.state()
        self._write_rollouts(collected, result)
        if self._due(self.spec.evaluation.interval):
            values |= self._evaluations.run(self._context())
        values |= self._progress.end_step(values["train/tokens_generated"])
        values |= self._memory.of_step(self._engine.process_ids)
        self._tell(values, self._digest(collected, result), batch.grading)
        ended_by = self._guard(collected, result)
        if self._due(self.spec.checkpoint.interval) or ended_by is not None:
            self._save_checkpoint(values)
        if ended_by is not None:
            raise GuardTripped(f"{ended_by}: it diverged. The checkpoint of this step has been saved")

    def _context(self, step: int | None = None) -> StepContext:
        """The context of the phases of ``step``, by default the next one."""
        form = self.spec.response_format
        return StepContext(
            step=self.counters.step if step is None else step,
            policy=self.policy,
            algorithm=self._algorithm,
            engine=self._engine,
            grader=self._grader,
            rollout=self.spec.rollout,
            seed=self.spec.seed,
            progress=self._progress,
            ranks=self._ranks,
            positions=self.spec.optimizer.tokens_per_micro_batch,
            reference=self._reference,
            tally=Tally(self.spec.grader),
            form=form if form is not None and form.restricts else None,
        )

    def _probe(self, context: StepContext) -> dict[str, float]:
        """Diagnostics of the parameters as they are before the step."""
        if not self._probes.due(context.step):
            return {}
        with context.phase("diagnostics"):
            return self._probes.run(context)

    def _update(self, context: StepContext, groups: list[Group]) -> UpdateResult:
        """Train on the groups. Raises what ``check_finite`` does."""
        settings, seconds = self.spec.optimizer, self._progress.seconds
        with context.phase("forward_backward"):
            result = update(
                context,
                self._optimizer,
                groups,
                first_update=self.counters.updates,
                updates=settings.updates_per_batch,
                tokens_per_micro_batch=settings.tokens_per_micro_batch,
                divergence_stride=self.spec.diagnostics.divergence_stride,
            )
        seconds["forward_backward"] -= result.optimizer_seconds
        seconds |= {"optimizer": result.optimizer_seconds, "divergence": result.divergence_seconds}
        check_finite(context.step + 1, result.loss, result.grad_norm)
        return result

    def _count(self, collected: Collected, result: UpdateResult) -> None:
        """The step is done."""
        self._batches.trained(self.counters.step)
        self.counters.step += 1
        self.counters.updates += self.spec.optimizer.updates_per_batch
        self.counters.items += len(collected.sampled)
        self.counters.trained_tokens += result.trained_tokens

    def _guard(self, collected: Collected, result: UpdateResult) -> str | None:
        """Report modes that diverge; why the run should end now, if it should."""
        if self.spec.guards == "off":
            return None
        seen = observe_modes(collected.sampled, result.entropy_T)
        for alarm in watch(self.counters.step, self.counters, seen):
            if alarm.lasts and self.spec.guards == "stop":
                return alarm.message
            if not alarm.told:
                self._progress.say(alarm.message, level="warn")
        return None

    def _save_checkpoint(self, values: dict[str, float]) -> None:
        self.counters.batches = self._batches.dump()
        super()._save_checkpoint(values)

    # --- what is reported -------------------------------------------------------------------------------

    def _write_rollouts(self, collected: Collected, result: UpdateResult) -> None:
        """For the step just counted; only the first rank's, because the others' events go nowhere."""
        if self._ranks.first:
            records = rollout_records(self.policy, collected.sampled, result.entropy_T)
            self._events.write(Rollouts(step=self.counters.step, rollouts=records))

    def _digest(self, collected: Collected, result: UpdateResult) -> StepDigest | None:
        """The same for the step's digest; collective."""
        weights = self._weights_sha256()
        if not self._ranks.first:
            return None
        return step_digest(collected.sampled, result.grad_norm, weights)

    def _tell(
        self, values: dict[str, float], digest: StepDigest | None = None, train: Sequence[Grading] = ()
    ) -> None:
        self._write_metrics(values, digest, train, self._evaluations.grading_of(self.counters.step))


def build_run(
    spec: RunSpec,
    run_dir: Path,
    events: EventWriter,
    stop: threading.Event | None = None,
    reward: RewardFunction | None = None,
    ranks: Ranks = ALONE,
    folder: RunFolder | None = None,
) -> BaseRun:
    """Load everything. Raises InvalidSpec for a spec that cannot work."""
    if isinstance(spec.algorithm, Taught):
        return TaughtRun(spec, run_dir, events, stop, ranks, folder)
    return Run(spec, run_dir, events, stop, reward, ranks, folder)
