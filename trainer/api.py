"""The trainer as a library: one call trains a run, with a reward function of one's own if wanted.

>>> import json, pathlib
>>> from trainer.api import train
>>> from trainer.spec.data import JsonlData
>>> from trainer.spec.model import ModelSpec
>>> from trainer.spec.run import RolloutSpec, RunSpec
>>> rows = [{"messages": [{"role": "user", "content": f"Say {x}"}], "letter": x} for x in "abcd"]
>>> data = pathlib.Path(folder, "rows.jsonl")
>>> _ = data.write_text("\\n".join(map(json.dumps, rows)))
>>> def short_and_right(item, text):
...     return float(item["letter"] in text) / (1 + len(text) / 100)
>>> spec = RunSpec(
...     run_id="example",
...     model=ModelSpec(path=model_folder),
...     training_data=JsonlData(path=str(data)),
...     grader=None,
...     rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=4, max_response_tokens=16),
...     total_steps=2,
... )
>>> result = train(spec, pathlib.Path(folder, "run"), reward=short_and_right)
>>> result.finished, result.step, result.checkpoint.name
(True, 2, 'step-2')

The same call on the same folder goes on with a run that was cut off; with ``on_event`` one sees it work.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import TrainerError
from trainer.graders.custom import RewardFunction
from trainer.graders.grade import Grade
from trainer.spec.events import Event, EventWriter, Failed
from trainer.spec.run import RunSpec
from trainer.system.imports import large_imports

with large_imports():
    from trainer.checkpoints.checkpoint import step_folders
    from trainer.loop import build_run

__all__ = ["Grade", "Result", "RewardFunction", "train"]


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    ``checkpoint`` is a model folder: of a finished run the one that ``checkpoint.select`` chooses, else the
    last; None when it was stopped before its first.
    """

    finished: bool
    step: int
    checkpoint: Path | None


class _Listener(EventWriter):
    def __init__(self, path: Path, on_event: Callable[[Event], None] | None):
        super().__init__(path)
        self._on_event = on_event

    def write(self, event: Event) -> None:
        super().write(event)
        if self._on_event is not None:
            self._on_event(event)


def train(
    spec: RunSpec,
    run_dir: Path,
    reward: RewardFunction | None = None,
    on_event: Callable[[Event], None] | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Train ``spec`` in this process; events, checkpoints and the state for a resumption go to ``run_dir``.

    Args:
        reward: a function of (item, response text) to a number from 0 to 1, or to a Grade; item is the row
            of the data, and the text is the answer, without thoughts. Then ``spec.grader`` is None. As an
            object it may have ``answer(item, text)``, too: what votes compare, and what exploration at the
            level of answers counts; a text, or None for none. An
            exception in it leaves the response out of training and counts as ``train/grader_errors``; a step
            in which all fail ends the run, and so does a number that is not a reward.
        on_event: called with each event after it was written.
        stop: set it, from another thread or from ``on_event``, to stop after the current step.

    Raises:
        TrainerError: InvalidSpec before anything is trained, or the reason why the run cannot go on.
    """
    run_dir = Path(run_dir)
    with _Listener(run_dir / "events.jsonl", on_event) as events:
        try:
            run = build_run(spec, run_dir, events, stop, reward)
            finished = run.run()
        except TrainerError as error:
            events.write(Failed(code=error.code, message=str(error), param=error.param))
            raise
    step = run.counters.step
    return Result(finished, step, step_folders(run_dir / "checkpoints").get(run.result_step))
