"""The groups of a step: prompts in their order, answered in both modes and graded, until enough have
something to teach."""

import threading
from collections.abc import Sequence

from trainer.data.items import Item, ItemOrder
from trainer.errors import EngineFailed, GraderFailed
from trainer.graders.grade import Grade
from trainer.spec.data import EnvironmentData
from trainer.spec.events import EventWriter, Rollouts
from trainer.spec.run import RunSpec
from trainer.steps.context import StepContext
from trainer.steps.generation import build_group, count_errors, grade_groups, sample_groups
from trainer.steps.progress import StopAsked
from trainer.steps.records import rollout_records
from trainer.steps.resampling import Collected, collect_groups
from trainer.types import Group


class Collector:
    """Takes the items of a run's steps, one after the other."""

    def __init__(self, spec: RunSpec, items: Sequence[Item], events: EventWriter, stop: threading.Event):
        self._items, self._events, self._stop = items, events, stop
        self._order = ItemOrder(len(items), spec.seed)
        # Limits for prompts made on demand, which were not checked before training.
        made = isinstance(spec.training_data, EnvironmentData)
        self._unseen_limit = spec.rollout.max_prompt_tokens if made else None

    def collect(self, context: StepContext, taken: int) -> Collected:
        """Sample prompts and grade the responses until enough groups have something to teach.

        ``taken``: how many items the steps before have taken. Raises GraderFailed, and StopAsked where the
        run was asked to stop while it sampled.
        """
        errors: list[Grade] = []

        def sample_and_grade(first: int, count: int) -> list[Group]:
            groups = self._sample(context, taken + first, first, count)
            errors.extend(self._score(context, groups, all_may_fail=first > 0))
            return groups

        wanted, rounds = context.rollout.prompts_per_step, context.algorithm.resampling_rounds
        collected = collect_groups(
            sample_and_grade, context.algorithm.keeps, wanted=wanted, resampling_rounds=rounds
        )
        collected.errors = errors
        if len(collected.kept) < wanted:
            context.progress.say(
                f"step {context.step + 1}: after {collected.rounds} rounds of sampling only "
                f"{len(collected.kept)} of {wanted} prompts have differing rewards; the step trains on "
                "these",
                level="warn",
            )
        return collected

    def _sample(self, context: StepContext, taken: int, first: int, count: int) -> list[Group]:
        """The step's groups from number ``first`` on, of the items after the ``taken`` first, answered."""
        with context.phase("generate"):
            places = self._order.take(taken, count)
            items = [self._items[place] for place in places]
            groups = [
                build_group(context.policy, item, number, item.index, self._unseen_limit)
                for number, item in enumerate(items, first)
            ]
            try:
                sample_groups(context, groups, context.samples, "sample")
            except EngineFailed as error:
                if self._stop.is_set() and context.ranks.world == 1:
                    raise StopAsked from error
                raise
        return groups

    def _score(self, context: StepContext, groups: list[Group], all_may_fail: bool) -> list[Grade]:
        """Grade the groups; what the grader failed with. One that goes on with a few further items has
        graded others already, so that ``all_may_fail``."""
        with context.phase("score"):
            try:
                errors = grade_groups(context, groups, all_may_fail=all_may_fail)
            except GraderFailed:
                # Whoever fixes the grader wants to see the answers it failed on.
                if context.ranks.first:
                    records = rollout_records(context.policy, groups, {})
                    self._events.write(Rollouts(step=context.step + 1, rollouts=records))
                raise
        if errors:
            context.progress.say(
                f"step {context.step + 1}: left out where the grader failed: {count_errors(errors)}",
                level="warn",
            )
        return errors
