"""Runs whose engine has weights of its own, as vLLM has, in one process or as the first of several ranks."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.runs import tiny_spec, write_rows
from trainer.distributed.ranks import ALONE, Ranks
from trainer.loop import Run
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.rollout.first_ranks_engine import FirstRanksEngine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.weight_transfer import PipeSender, checkpoint_weights
from trainer.spec.events import EventWriter
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec, RunSpec
from trainer.steps.context import StepContext
from trainer.steps.update import UpdateResult
from trainer.types import Group

STEPS = 4


def spec_of(model: Path, folder: Path, staleness: int, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "rollout": RolloutSpec(
            prompts_per_step=3, samples_per_prompt=4, max_response_tokens=16, staleness=staleness
        ),
        "validation_data": None,
        "diagnostics": DiagnosticsSpec(interval=2, probe_items=1),
        "checkpoint": CheckpointSpec(interval=1, keep_best=STEPS),
        "total_steps": STEPS,
    }
    return tiny_spec(model, write_rows(folder / "data.jsonl"), **(fields | changes))


class Beside(RolloutEngine):
    """The built-in engine on weights of its own, which the first ``sync`` gives it."""

    def __init__(self, policy: Policy, folder: Path):
        self._policy = policy
        self._own = load_tiny_policy(folder, double=False)
        self._engine = TransformersEngine(self._own)

    def generate(self, requests: Sequence[SampleRequest], **options: Any) -> list[Sample]:
        return self._engine.generate(requests, **options)

    @property
    def has_own_weights(self) -> bool:
        return True

    def sync(self) -> None:
        with checkpoint_weights(self._policy) as weights:
            missing, unexpected = self._own.model.load_state_dict(weights, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, "tied weights come once"


def built(run: Run, engine: Callable[[Policy, Path], RolloutEngine], ranks: Ranks = ALONE) -> RolloutEngine:
    """The engine of a run, with the run's weights."""
    made = engine(run.policy, Path(run.spec.model.path)) if ranks.first else None
    if ranks.world > 1:
        made = FirstRanksEngine(made, None if ranks.first else PipeSender(run.policy, None), ranks)
    assert made is not None
    made.sync()
    return made


class Waiting(Run):
    """The first rank samples, and grades, the next batch while the others have not begun their update: by
    then a collective operation of the sampling would wait for ever."""

    sampled: Path
    """A pipe with a name."""

    def _update(self, context: StepContext, groups: list[Group]) -> UpdateResult:
        if not context.ranks.first and context.step + 1 < self.spec.total_steps:
            self.sampled.read_bytes()
        return super()._update(context, groups)


def run_on(ranks: Ranks, spec: RunSpec, folder: Path) -> None:
    """A whole run of several ranks; collective."""
    pipe = folder.with_name("sampled")
    if ranks.first:
        os.mkfifo(pipe)
    ranks.gather(None)
    with EventWriter(folder / "events.jsonl" if ranks.first else Path(os.devnull)) as events:
        run = Waiting(spec, folder, events, ranks=ranks)
        run.sampled = pipe
        run._engine = built(run, Beside, ranks)
        collect = run._batches._collect

        def collect_and_tell(context: StepContext, weights: int, items: int) -> None:
            collect(context, weights, items)
            if ranks.first and context.ranks.world == 1:
                pipe.write_bytes(b"done")

        run._batches._collect = collect_and_tell
        assert run.run()
