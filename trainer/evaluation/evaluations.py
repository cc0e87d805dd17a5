"""The evaluations of a run, one after the other, and what the last one came to."""

from collections.abc import Sequence

from trainer.data.items import Item
from trainer.evaluation.evaluate import evaluate
from trainer.model.embedding import Encoder
from trainer.spec.events import EvaluationOutcomes, EventWriter, Grading
from trainer.spec.modes import Mode
from trainer.spec.run import RunSpec
from trainer.steps.context import StepContext


class Evaluations:
    """On the validation data, if there is any; the last one of a run tells its outcomes item by item."""

    def __init__(
        self, spec: RunSpec, items: Sequence[Item] | None, encoder: Encoder | None, events: EventWriter
    ):
        self._spec, self._items, self._encoder, self._events = spec, items, encoder, events
        self._step = -1
        self._values: dict[str, float] = {}
        self._grading: list[Grading] = []

    def run(self, context: StepContext) -> dict[str, float]:
        """The metrics of the weights as they are; none without validation data. Raises as ``evaluate``."""
        if self._items is None:
            return {}
        samples = context.algorithm.samples(0, context.rollout.samples_per_prompt)
        modes = tuple(mode for mode in Mode if samples.get(mode))
        with context.phase("evaluate"):
            self._values, outcomes = evaluate(
                context, self._items, modes, self._spec.evaluation, self._encoder
            )
        self._step, self._grading = context.step, context.tally.result()
        if errors := self._values["eval/grader_errors"]:
            context.progress.say(
                f"evaluation after step {context.step}: left out {errors:.0f} responses that the grader "
                "failed on",
                level="warn",
            )
        if context.step == self._spec.total_steps:
            self._events.write(EvaluationOutcomes(step=context.step, modes=outcomes))
        return self._values

    def values_of(self, step: int) -> dict[str, float]:
        """The metrics of the evaluation after ``step`` alone: an earlier one was of other weights."""
        return self._values if self._step == step else {}

    def grading_of(self, step: int) -> list[Grading]:
        """What each grader did in it."""
        return self._grading if self._step == step else []
