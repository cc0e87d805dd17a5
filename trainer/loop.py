"""A run from its spec to its last checkpoint: the phases of a step, top to bottom.

    items ─▶ groups ─▶ sample both modes ─▶ grade ─▶ plan (rows, advantages)
                                                        │
      events.jsonl ◀─ metrics, rollouts ◀─ optimizer ◀─ forward, bonus, loss, backward

Several ranks (``trainer.ranks``) go through these phases together; one process alone is the usual case.
Everything random is a function of (seed, step, index), so a run that is killed and resumed from its state
goes on exactly as if nothing had happened.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from trainer.algorithms import build_algorithm
from trainer.data.items import ItemOrder, load_items
from trainer.diagnostics.probe_set import ProbeSet
from trainer.digest import step_digest, weights_sha256
from trainer.embedding import load_encoder
from trainer.evaluate import evaluate
from trainer.events import (
    EvaluationOutcomes,
    EventWriter,
    Finished,
    MessageEvent,
    Phase,
    Rollouts,
    Started,
    StepDigest,
    StepMetrics,
    Stopped,
)
from trainer.generation import build_group, count_errors, error_metrics, grade_groups, sample_groups
from trainer.graders.answers import answer_function
from trainer.graders.custom import RewardFunction, choose_grader
from trainer.graders.grade import Grade
from trainer.guards import check_collapse, check_finite
from trainer.memory import MemoryWatch
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.optim import MasterAdamW
from trainer.policy import Policy, load_policy
from trainer.preflight import preflight
from trainer.ranks import ALONE, Ranks
from trainer.records import mode_metrics, rollout_records
from trainer.resampling import Collected, collect_groups
from trainer.rollout import build_engine
from trainer.rollout.engine import RolloutEngine
from trainer.rollout.sharded_engine import ShardedEngine
from trainer.run_folder import RunFolder
from trainer.seeds import generator
from trainer.spec import RunSpec
from trainer.templates import fit_template
from trainer.types import Group
from trainer.update import UpdateResult, update


class Run:
    """One training run. Building it loads everything and refuses a spec that cannot work."""

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
        self.spec = spec
        self._events = events
        self._stop = stop or threading.Event()
        self._ranks = ranks
        self._training = load_items(spec.training_data, "training_data")
        self._validation = (
            load_items(spec.validation_data, "validation_data") if spec.validation_data else None
        )
        self._answer = answer_function(spec.grader)
        self.policy = load_policy(
            spec.model,
            spec.high_entropy_prompt,
            placement=spec.high_entropy_placement,
            chat_template_kwargs=spec.chat_template_kwargs,
            lora=spec.lora,
            seed=spec.seed,
        )
        self._algorithm = build_algorithm(spec.algorithm, spec.rollout.max_response_tokens)
        self._notes = fit_template(
            self.policy,
            {"training_data": self._training, "validation_data": self._validation or []},
            needs_high_entropy=self._needs(Mode.HIGH_ENTROPY),
        )
        self._reference = self._load_reference()
        self._probes = ProbeSet(spec, self.policy, self._algorithm, self._validation or self._training)
        embedding_model = spec.evaluation.embedding_model
        self._encoder = load_encoder(embedding_model, self.policy.device) if embedding_model else None
        self._optimizer = MasterAdamW(self.policy.model, spec.optimizer)
        self._order = ItemOrder(len(self._training), spec.seed)
        self._folder = folder or RunFolder(run_dir, spec, events, ranks)
        self.counters = self._folder.restore(self._optimizer)
        self._engine: RolloutEngine = build_engine(spec, self.policy)  # with the weights of the state
        if ranks.world > 1:
            self._engine = ShardedEngine(self._engine, ranks)
        self._algorithm.load_state(self.counters.algorithm_state)
        self._memory = MemoryWatch(self.policy.device)
        self._seconds: dict[str, float] = {}
        self._validation_metrics: dict[str, float] = {}
        # Last, for it may start threads and processes, which run() ends.
        self._grader = choose_grader(spec.grader, reward)

    def _load_reference(self) -> Policy | None:
        """The model that training began with, where the objective has a penalty on leaving it."""
        if self._algorithm.objective.reference_kl is None:
            return None
        if self.spec.lora is not None:
            return self.policy  # with its adapters off: no second copy of the weights
        reference = load_policy(self.spec.model, self.spec.high_entropy_prompt)
        reference.model.requires_grad_(False)
        return reference

    def _needs(self, mode: Mode) -> bool:
        """Whether the run ever samples from ``mode`` or scores under its prompt."""
        steps = (0, max(self.spec.total_steps - 1, 0))
        samples = self.spec.rollout.samples_per_prompt
        return any(
            self._algorithm.samples(step, samples).get(mode) or mode in self._algorithm.scored_modes(step)
            for step in steps
        )

    def run(self) -> bool:
        """Train to the last step; True when finished, False when asked to stop before. Once a Run."""
        with closing(self._engine), closing(self._grader):
            return self._train()

    def advance(self, to: int) -> None:
        """Do the steps up to number ``to`` and no more (``trainer.replay``). In place of :meth:`run`."""
        with closing(self._engine), closing(self._grader):
            while self.counters.step < to:
                self._step()

    def _train(self) -> bool:
        self._announce()
        if self.counters.step == 0 and not self._folder.has_checkpoint(0):
            self._look_at_the_grader()
            self._evaluate_and_report(step=0)
        while self.counters.step < self.spec.total_steps:
            if self._ranks.any(self._stop.is_set()):
                return self._stopped()
            self._step()
        if self.spec.total_steps == 0 and not self._folder.has_checkpoint(0):
            self._save_checkpoint({})
        self._folder.shelve_state()
        self._events.write(
            Finished(
                step=self.counters.step,
                trained_tokens=self.counters.trained_tokens,
                peak_memory_bytes=self._memory.peak(),
            )
        )
        return True

    def _look_at_the_grader(self) -> None:
        spec = self.spec.preflight
        if spec is None or spec.samples == 0 or self.spec.total_steps == 0:
            return
        with self._phase("preflight", 0):
            preflight(
                self.policy,
                self._engine,
                self._training,
                self._grader,
                self._algorithm.samples(0, self.spec.rollout.samples_per_prompt),
                spec=spec,
                rollout=self.spec.rollout,
                seed=self.spec.seed,
                on_progress=lambda: self._beat("preflight", 0),
                ranks=self._ranks,
                say=self._say,
            )

    # --- the phases of a step -------------------------------------------------------------------------

    def _step(self) -> None:
        step = self.counters.step
        # A checkpoint is saved after its step's metrics are written: its time is told with the next step's.
        self._seconds = {"sync": 0.0, "checkpoint": self._seconds.get("checkpoint", 0.0)}
        started = time.perf_counter()
        probed = self._probe(step)
        errors: list[Grade] = []
        collected = collect_groups(
            lambda first, count: self._sample_and_score(step, first, count, errors),
            self._algorithm.keeps,
            wanted=self.spec.rollout.prompts_per_step,
            resampling_rounds=self._algorithm.resampling_rounds,
        )
        self._engine.rest()
        metrics = MetricSums()
        result = self._update(step, collected.kept, metrics)
        with self._phase("sync", step):
            self._engine.sync()
        values = metrics.result() | self._algorithm.schedule_metrics(step) | mode_metrics(collected.sampled)
        values |= self._resampling_metrics(step, collected)
        values |= probed
        values |= self._count(collected, result)
        values |= error_metrics("train", errors)
        self._algorithm.after_step(values)
        self.counters.algorithm_state = self._algorithm.state()
        if self._ranks.first:  # the others' events go nowhere
            records = rollout_records(self.policy, collected.sampled, result.entropy_T)
            self._events.write(Rollouts(step=step + 1, rollouts=records))
        if self._due(self.spec.evaluation.interval):
            values |= self._evaluate(step + 1)
        values["train/step_seconds"] = time.perf_counter() - started
        values["train/tokens_per_second"] = values["train/tokens_generated"] / values["train/step_seconds"]
        values |= {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        self._seconds["checkpoint"] = 0.0
        values |= self._memory.of_step(self._engine.process_ids)
        self._write_metrics(step + 1, values, self._digest(collected.sampled, result.grad_norm))
        for mode in ("N", "H"):
            if (entropy := values.get(f"train/{mode}/entropy_nats")) is not None:
                check_collapse(step + 1, self.counters, mode, entropy, values[f"train/{mode}/reward"])
        if self._due(self.spec.checkpoint.interval):
            self._save_checkpoint(values)

    def _sample_and_score(self, step: int, first: int, count: int, errors: list[Grade]) -> list[Group]:
        """The step's groups from number ``first`` on; what the grader failed with goes to ``errors``."""
        groups = self._sample(step, first, count)
        # A step that goes on with a few further items has graded others already.
        errors += self._score(step, groups, all_may_fail=first > 0)
        return groups

    def _sample(self, step: int, first: int, count: int) -> list[Group]:
        with self._phase("generate", step):
            groups = [
                build_group(
                    self.policy, self._training[item], number, item, self.spec.rollout.max_prompt_tokens
                )
                for number, item in enumerate(self._order.take(self.counters.items + first, count), first)
            ]
            sample_groups(
                self._engine,
                groups,
                self._algorithm.samples(step, self.spec.rollout.samples_per_prompt),
                seed=(self.spec.seed, "sample", step),
                max_tokens=self.spec.rollout.max_response_tokens,
                temperature=self.spec.rollout.temperature,
                on_progress=lambda: self._beat("generate", step),
            )
        return groups

    def _score(self, step: int, groups: list[Group], all_may_fail: bool) -> list[Grade]:
        with self._phase("score", step):
            errors = grade_groups(
                self.policy,
                groups,
                self._grader,
                all_may_fail=all_may_fail,
                on_progress=lambda: self._beat("score", step),
                ranks=self._ranks,
            )
        if errors:
            self._say(
                f"step {step + 1}: left out where the grader failed: {count_errors(errors)}",
                level="warn",
            )
        return errors

    def _update(self, step: int, groups: list[Group], metrics: MetricSums) -> UpdateResult:
        """Train on the groups. Raises what ``check_finite`` does."""
        with self._phase("forward_backward", step):
            result = update(
                self.policy,
                self._optimizer,
                self._algorithm,
                groups,
                step=step,
                first_update=self.counters.updates,
                updates=self.spec.optimizer.updates_per_batch,
                groups_per_micro_batch=self.spec.optimizer.groups_per_micro_batch,
                temperature=self.spec.rollout.temperature,
                max_length=self.spec.rollout.max_response_tokens,
                metrics=metrics,
                generator=generator(self.spec.seed, "update", step),
                on_progress=lambda: self._beat("forward_backward", step),
                reference=self._reference,
                divergence_stride=self.spec.diagnostics.divergence_stride,
                ranks=self._ranks,
            )
        self._seconds["forward_backward"] -= result.optimizer_seconds
        self._seconds |= {"optimizer": result.optimizer_seconds, "divergence": result.divergence_seconds}
        check_finite(step + 1, result.loss, result.grad_norm)
        return result

    def _resampling_metrics(self, step: int, collected: Collected) -> dict[str, float]:
        if self._algorithm.resampling_rounds == 0 and not collected.dropped:
            return {}
        wanted = self.spec.rollout.prompts_per_step
        if len(collected.kept) < wanted:
            self._say(
                f"step {step + 1}: after {collected.rounds} rounds of sampling only {len(collected.kept)} of "
                f"{wanted} prompts have rewards that differ; the step trains on these",
                level="warn",
            )
        return {
            "train/sampling_rounds": float(collected.rounds),
            "train/groups_dropped": float(len(collected.dropped)),
        }

    def _probe(self, step: int) -> dict[str, float]:
        """Diagnostics of the parameters as they are before the step."""
        if not self._probes.due(step):
            return {}
        with self._phase("diagnostics", step):
            result = self._probes.run(
                step, self._engine, self._grader, lambda: self._beat("diagnostics", step), self._ranks
            )
        if result.grader_error is not None:
            self._say(
                f"step {step + 1}: the grader failed on responses of the probe set; "
                f"first: {result.grader_error}",
                level="warn",
            )
        return result.values

    # --- evaluation and checkpoints -------------------------------------------------------------------

    def _due(self, interval: int) -> bool:
        step = self.counters.step
        return step == self.spec.total_steps or (interval > 0 and step % interval == 0)

    def _evaluate(self, step: int) -> dict[str, float]:
        if self._validation is None:
            return {}
        samples = self._algorithm.samples(0, self.spec.rollout.samples_per_prompt)
        with self._phase("evaluate", step):
            self._validation_metrics, outcomes = evaluate(
                self.policy,
                self._engine,
                self._validation,
                self._grader,
                self._answer,
                tuple(mode for mode in Mode if samples.get(mode)),
                evaluation=self.spec.evaluation,
                rollout=self.spec.rollout,
                seed=self.spec.seed,
                step=step,
                on_progress=lambda: self._beat("evaluate", step),
                encoder=self._encoder,
                ranks=self._ranks,
            )
        if step == self.spec.total_steps:
            self._events.write(EvaluationOutcomes(step=step, modes=outcomes))
        return self._validation_metrics

    def _evaluate_and_report(self, step: int) -> None:
        if values := self._evaluate(step):
            self._write_metrics(step, values)

    def _save_checkpoint(self, values: dict[str, float]) -> None:
        with self._phase("checkpoint", self.counters.step):
            metrics = values | self._validation_metrics
            self._folder.save(self.policy, self._optimizer, self.counters, metrics)

    # --- beginning, end, and what is told in between ----------------------------------------------------

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
            self._say(note)
        if self.policy.adapted:
            trained, frozen = self._optimizer.trained, self.policy.parameters
            self._say(f"LoRA trains {trained:,} weights; {frozen - trained:,} stay as they are.")
        for problem in self._folder.problems:
            self._say(f"{problem}; going on after step {self.counters.step}", level="warn")
        self._folder.report_existing(up_to=self.counters.step)

    def _stopped(self) -> bool:
        step = self.counters.step
        if step and not self._folder.has_checkpoint(step):
            self._save_checkpoint({})
        self._events.write(Stopped(step=step, trained_tokens=self.counters.trained_tokens))
        return False

    def _count(self, collected: Collected, result: UpdateResult) -> dict[str, float]:
        """Move the counters past the step that was done; the metrics of its update."""
        trained = self._trained_tokens(collected.kept)
        learning_rate = self._optimizer.learning_rate(self.counters.updates)
        self.counters.step += 1
        self.counters.updates += self.spec.optimizer.updates_per_batch
        self.counters.items += len(collected.sampled)
        self.counters.trained_tokens += trained
        return {
            "train/loss": result.loss,
            "train/grad_norm": result.grad_norm,
            "train/lr": learning_rate,
            "train/tokens_trained": float(trained),
        }

    def _trained_tokens(self, groups: list[Group]) -> int:
        weights = self._algorithm.mode_weights(self.counters.step)
        plans = [self._algorithm.plan(group) for group in groups]
        tokens = sum(plan.counts(mode).tokens for plan in plans for mode, w in weights.items() if w > 0)
        return tokens * self.spec.optimizer.updates_per_batch

    def _digest(self, sampled: list[Group], grad_norm: float) -> StepDigest | None:
        """Of the step just counted; the first rank's, for the others' events go nowhere."""
        if not self._ranks.first:
            return None
        saved = self._due(self.spec.checkpoint.interval)
        return step_digest(sampled, grad_norm, weights_sha256(self._optimizer.masters()) if saved else None)

    def _write_metrics(self, step: int, values: dict[str, float], digest: StepDigest | None = None) -> None:
        total = self.spec.total_steps
        self._events.write(StepMetrics(step=step, total_steps=total, values=values, digest=digest))

    def _say(self, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        self._events.write(MessageEvent(level=level, message=message, data=data or {}))  # type: ignore[arg-type]

    def _beat(self, phase: str, step: int) -> None:
        self._events.write(Phase(step=step + 1, phase=phase))

    @contextmanager
    def _phase(self, name: str, step: int) -> Iterator[None]:
        self._beat(name, step)
        started = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started
