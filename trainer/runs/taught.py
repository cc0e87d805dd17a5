"""A run that learns from rows which say what to answer, and the way of a step in it.

::

    training_data
         │ load_examples: what the assistant says, in tokens, by the chat template (trainer.model.turns)
         ▼
    Examples: rows of token ids, of which some are learnt
         │ ItemOrder: those of a step
         ▼
    units of rows ─ micro_batches ─ score_rows ─▶ log-probabilities of what is learnt
         │ Teaching.loss
         ▼
    loss ─ backward ─▶ MasterAdamW
         │ measure: the same loss on validation data
         ▼
    events.jsonl, checkpoints
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from trainer.checkpoints.digest import lesson_digest
from trainer.checkpoints.run_folder import RunFolder
from trainer.data.items import ItemOrder
from trainer.distributed.ranks import ALONE, Ranks
from trainer.evaluation.lessons import load_examples
from trainer.model.policy import load_reference
from trainer.model.templates import fit_template
from trainer.model.turns import missing_ends
from trainer.runs.base import BaseRun
from trainer.spec.events import EventWriter
from trainer.spec.run import RunSpec
from trainer.spec.taught import Dpo, Supervised
from trainer.steps.guards import check_finite
from trainer.steps.teaching import (
    Example,
    PreferenceTeaching,
    SupervisedTeaching,
    Taught,
    Teaching,
    measure,
    teach,
)

#: Rows of the validation data that each step is measured on.
VALIDATED_EACH_STEP = 8


class TaughtRun(BaseRun):
    """A run that learns from rows."""

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        events: EventWriter,
        stop: threading.Event | None = None,
        ranks: Ranks = ALONE,
        folder: RunFolder | None = None,
    ):
        super().__init__(spec, run_dir, events, stop, ranks, folder)
        assert isinstance(spec.algorithm, Supervised | Dpo)
        self._method = spec.algorithm
        self._load_policy()
        both = isinstance(self._method, Supervised) and self._method.modes == "both"
        self._teaching = self._teach_by()
        self._notes += fit_template(self.policy, {}, needs_high_entropy=both)
        self._training = self._examples("training_data")
        taught = (row for one in self._training for rows in one.rows.values() for row in rows)
        if (note := missing_ends(self.policy, taught)) is not None:
            self._notes.append(note)
        self._validation = [] if spec.validation_data is None else self._examples("validation_data")
        self._order = ItemOrder(len(self._training), spec.seed)
        self._validation_order = ItemOrder(max(len(self._validation), 1), spec.seed)
        self._last_evaluation: tuple[int, dict[str, float]] = (-1, {})
        self._restore()

    def _teach_by(self) -> Teaching:
        if isinstance(self._method, Supervised):
            return SupervisedTeaching()
        # With adapters it is the policy itself, with these off.
        return PreferenceTeaching(self._method.beta, load_reference(self.spec.model, self.policy))

    def _examples(self, param: str) -> list[Example]:
        data = getattr(self.spec, param)
        examples, dropped = load_examples(self.policy, data, self._method, param)
        if dropped is not None:
            self._dropped.append(dropped)
        return examples

    def _resources(self) -> Sequence[AbstractContextManager[object]]:
        return ()

    def _evaluated(self) -> dict[str, float]:
        step, values = self._last_evaluation
        return values if step == self.counters.step else {}

    def _begin(self) -> None:
        if self.spec.total_steps > 0:
            with self._phase("preflight"):
                self._try_to_save()
        self._stop_if_asked()
        # Ranks that wait for each other stop only between two phases.
        alone = self._ranks.world == 1
        with self._progress.giving_up(lambda: alone and self._stop.is_set()):
            if values := self._evaluate():
                self._write_metrics(values)

    # --- one step, from top to bottom ---------------------------------------------------------------------

    def _step(self) -> None:
        self._progress.begin_step()
        examples = [self._training[place] for place in self._order.take(self.counters.items, self._size)]
        with self._phase("forward_backward"):
            result = self._teach(examples)
        self._progress.seconds["forward_backward"] -= result.optimizer_seconds
        self._progress.seconds["optimizer"] = result.optimizer_seconds
        check_finite(self.counters.step + 1, result.loss, result.grad_norm)
        self._count(result)
        values = self._step_metrics(result) | self._validate()
        if self._due(self.spec.evaluation.interval):
            values |= self._evaluate()
        values |= self._progress.end_step(result.tokens)
        values |= self._memory.of_step(())
        digest = lesson_digest(
            [(one.line, rows) for one in examples for rows in one.rows.values()],
            result.grad_norm,
            self._weights_sha256(),
        )
        self._write_metrics(values, digest)
        if self._due(self.spec.checkpoint.interval):
            self._save_checkpoint(values)

    @property
    def _size(self) -> int:
        return self._method.batch_size

    def _teach(self, examples: list[Example]) -> Taught:
        return teach(
            self.policy,
            self._teaching,
            examples,
            self._optimizer,
            update=self.counters.updates,
            ranks=self._ranks,
            progress=self._progress,
            tokens_per_micro_batch=self.spec.optimizer.tokens_per_micro_batch,
        )

    def _count(self, result: Taught) -> None:
        """The step is done."""
        self.counters.step += 1
        self.counters.updates += 1
        self.counters.items += self._size
        self.counters.trained_tokens += result.tokens

    def _step_metrics(self, result: Taught) -> dict[str, float]:
        measured = {f"train/{name}": value for name, value in result.metrics.result().items()}
        return measured | {
            "train/loss": result.loss,
            "train/grad_norm": result.grad_norm,
            "train/lr": result.learning_rate,
            "train/tokens_trained": float(result.tokens),
        }

    # --- validation ---------------------------------------------------------------------------------------

    def _validate(self) -> dict[str, float]:
        """On a few rows, others each step."""
        if not self._validation:
            return {}
        few = min(VALIDATED_EACH_STEP, len(self._validation))
        places = self._validation_order.take((self.counters.step - 1) * few, few)
        return self._measure("valid", [self._validation[place] for place in places])

    def _evaluate(self) -> dict[str, float]:
        """On all rows; none without validation data."""
        if not self._validation:
            return {}
        values = self._measure("eval", self._validation)
        self._last_evaluation = self.counters.step, values
        return values

    def _measure(self, prefix: str, examples: Sequence[Example]) -> dict[str, float]:
        with self._phase("evaluate"):
            found = measure(
                self.policy,
                self._teaching,
                examples,
                ranks=self._ranks,
                progress=self._progress,
                tokens_per_micro_batch=self.spec.optimizer.tokens_per_micro_batch,
            )
        return {f"{prefix}/{name}": value for name, value in found.items()}
