"""The batches of steps, sampled and graded, with the weights of k steps before (``rollout.staleness``).

With k = 1::

    step      1                  2                  3
    trains    batch 1 ─▶ W1      batch 2 ─▶ W2      batch 3 ─▶ W3
    samples   batch 2 with W0    batch 3 with W1    batch 4 with W2

Which weights sample a batch depends on its step alone, however long anything takes: those after
max(0, step - 1 - k) steps, counting from 1. So a run comes to the same again. An engine with weights of its
own samples while the update goes on, and its batch is graded there, too, all by the first rank alone, for
what ranks do together has its order; one that computes with the weights that train samples right before it,
and its batches are the same. All that is sampled ahead is there when the
step ends, before the engine takes new weights, and is saved with the run's state: a resumed run trains it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from trainer.distributed.ranks import ALONE
from trainer.errors import EngineFailed
from trainer.rollout.engine import RolloutEngine
from trainer.spec.events import Event, Grading, Phase
from trainer.steps.collection import Collector
from trainer.steps.context import StepContext
from trainer.steps.progress import Progress, StopAsked, StoppedWithin
from trainer.steps.resampling import Collected

#: How often a step that waits for sampling beside it checks whether that makes progress.
LOOK_SECONDS = 1.0


@dataclass
class Batch:
    """What a step trains on, sampled and graded."""

    step: int
    """From 0."""
    weights: int
    """Steps done by the weights that sampled it."""
    collected: Collected
    grading: list[Grading]
    """What graders did."""

    @property
    def age(self) -> int:
        """In steps."""
        return self.step - self.weights


class _Saved(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    batches: list[Batch]


class Batches:
    """A run's batches, from the next step on.

    Args:
        context_of: the context of a step, from 0.
        saved: what :meth:`dump` returned at the step that the run resumes from.
    """

    def __init__(
        self,
        collector: Collector,
        context_of: Callable[[int], StepContext],
        *,
        staleness: int,
        total_steps: int,
        saved: str = "",
    ):
        self._collector, self._context_of = collector, context_of
        self._staleness, self._total_steps = staleness, total_steps
        batches = _Saved.model_validate_json(saved).batches if saved else []
        self._batches = {batch.step: batch for batch in batches}
        self._beside: _Beside | None = None
        self._ahead: list[int] = []
        """The steps that it samples for."""

    def take(self, step: int, items: int) -> Batch:
        """The batch of ``step``, which comes next; sampled now if it was not before.

        ``items``: how many items the steps before have taken. Raises what ``Collector.collect`` does.
        """
        if step not in self._batches:
            self._collect(self._context_of(step), step, items)
        return self._batches[step]

    def sample_ahead(self, step: int, items: int, engine: RolloutEngine) -> bool:
        """Sample the batches of the steps after ``step``, before its update; whether that continues beside
        it.

        :meth:`join` is to be called before the engine takes other weights.
        """
        last = min(step + self._staleness, self._total_steps - 1)
        missing = [later for later in range(step + 1, last + 1) if later not in self._batches]
        if not missing:
            return False
        if not engine.has_own_weights:
            for later in missing:
                self._collect(self._context_of(later), step, items)
            return False
        engine.wake()  # with the current weights, before they change
        engine.run_ahead()
        contexts = [self._context_of(later) for later in missing]
        alone = [replace(one, ranks=ALONE, engine=engine.own) for one in contexts if one.ranks.first]
        self._ahead = missing
        self._beside = _Beside(alone, lambda context: self._collect(context, step, items))
        return True

    def join(self, context: StepContext) -> dict[str, float]:
        """Wait for what is sampled beside the update; ``time/ahead``, the seconds that it took; collective.

        Raises what ``Collector.collect`` does; StoppedWithin if it was abandoned for a stop: the run then
        lacks parts of the step just updated.
        """
        beside, self._beside = self._beside, None
        if beside is None:
            return {}

        def wait() -> tuple[list[Batch], float]:
            seconds = beside.join(context.progress)
            return [self._batches[step] for step in self._ahead], seconds

        try:
            with context.phase("generate"):
                batches, seconds = context.ranks.from_first(wait)
        except StopAsked as stop:
            if context.ranks.world > 1:  # the others know nothing of it
                raise EngineFailed("the rollout engine gave up at a stop") from stop
            raise StoppedWithin from stop
        self._batches |= {batch.step: batch for batch in batches}
        return {"time/ahead": seconds}

    def trained(self, step: int) -> None:
        """Forget the batch of ``step``."""
        self._batches.pop(step, None)

    def dump(self) -> str:
        """The batches that are waiting, as JSON; empty where there are none."""
        batches = [self._batches[step] for step in sorted(self._batches)]
        return _Saved(batches=batches).model_dump_json() if batches else ""

    def _collect(self, context: StepContext, weights: int, items: int) -> None:
        """Sample and grade the batch of the context's step with the weights that the engine has."""
        before = [batch for step, batch in self._batches.items() if step < context.step]
        taken = items + sum(len(batch.collected.sampled) for batch in before)
        collected = self._collector.collect(context, taken)
        self._batches[context.step] = Batch(context.step, weights, collected, context.tally.result())


class _Beside:
    """Batches that a thread samples, one after the other.

    Whoever waits for it reports its progress: a step that hangs must not look like one that samples.
    """

    def __init__(self, contexts: list[StepContext], collect: Callable[[StepContext], None]):
        self._alive, self._done = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._seconds = 0.0
        self._work = [(replace(c, progress=Progress(self._tell(c.progress))), collect) for c in contexts]
        threading.Thread(target=self._run, name="sample-ahead", daemon=True).start()

    def join(self, progress: Progress) -> float:
        while not self._done.wait(LOOK_SECONDS):
            if self._alive.is_set():
                self._alive.clear()
                progress.beat()
        if self._failure is not None:
            raise self._failure
        return self._seconds

    def _tell(self, progress: Progress) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            if isinstance(event, Phase):
                self._alive.set()
            else:
                progress.tell(event)

        return tell

    def _run(self) -> None:
        started = time.perf_counter()
        try:
            for context, collect in self._work:
                collect(context)
        except BaseException as error:  # raised by whoever waits
            self._failure = error
        self._seconds = time.perf_counter() - started
        self._done.set()
