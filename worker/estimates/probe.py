"""From a run's specification to a short run, and from what that took to what the whole run will take.

The probe is the trainer itself, on the job's own data, model and grader, for two steps. What happens once or
now and then (loading, the preflight check, evaluations, checkpoints, diagnostics) is measured once and
counted as often as the job will do it.

    total = start + preflight + steps * step + evaluations * evaluation + checkpoints * checkpoint
            + diagnostics * diagnostics

Intervals: the two steps' own spread, and a quarter for what two steps cannot show. Responses grow and shrink
as a model learns, up to ``max_response_tokens``. Memory goes further up than down: prompts whose responses
all have the same reward are not trained, and there are fewer of those later than at the start.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trainer.errors import InvalidSpec
from trainer.spec.events import Event, Failed, Finished, Started, StepMetrics
from trainer.spec.memory_plan import Device, memory_plan
from trainer.spec.model_size import model_size
from trainer.spec.run import CheckpointSpec, RunSpec

STEPS = 2
#: What the preflight check samples, unless it takes more (trainer.evaluation.preflight).
PREFLIGHT_SAMPLES = 16
MARGIN = 0.25
_MEMORY_MARGIN = (0.1, 0.35)
_NOT_STEP = ("time/evaluate", "time/diagnostics")


def probe_spec(spec: RunSpec) -> RunSpec:
    """The run to try: the job's own, cut to two steps, with a checkpoint after the first."""
    return spec.model_copy(
        update={
            "total_steps": min(spec.total_steps, STEPS),
            "preflight": None,
            "checkpoint": CheckpointSpec(interval=1, keep_best=0, select="last"),
            "evaluation": spec.evaluation.model_copy(update={"interval": 0}),
        }
    )


@dataclass
class Measured:
    """What a probe told, event by event. Times in seconds."""

    began: float
    start: float = 0.0
    device: str = ""
    steps: list[dict[str, float]] = field(default_factory=list)
    ended_at: float = 0.0
    finished: Finished | None = None
    failed: Failed | None = None

    def read(self, events: Iterable[Event]) -> None:
        """Take in further events."""
        for event in events:
            match event:
                case Started():
                    self.start, self.device = event.time - self.began, event.device
                case StepMetrics(step=step) if step > 0:
                    self.steps.append(event.values)
                case Finished():
                    self.finished = event
                case Failed():
                    self.failed = event
                case _:
                    pass


def estimate_run(spec: RunSpec, measured: Measured, model: Path) -> dict[str, object]:
    """The estimate of a run, as the API shows it, from a probe that has finished; ``model``: its folder."""
    assert measured.finished is not None
    seconds = _phases(spec, measured)
    steps = _step_seconds(measured)
    step = sum(steps) / len(steps) if steps else 0.0
    low, high = (min(steps), max(steps)) if steps else (0.0, 0.0)
    count = _counts(spec)
    beside = seconds["start"] + sum(count[name] * seconds[name] for name in count)
    total, shortest, longest = (beside + spec.total_steps * one for one in (step, low, high))
    gpus = 0 if measured.device.startswith("cpu") else spec.resources.gpus
    memory = float(measured.finished.peak_memory_bytes or 0)
    return {
        "peak_memory_bytes": {
            "device": measured.device,
            **_interval(memory, memory, memory, *_MEMORY_MARGIN),
        },
        "memory_plan": _planned(spec, measured.device, model),
        "seconds_per_step": _interval(step, low, high),
        "total_seconds": _interval(total, shortest, longest),
        "gpu_hours": _interval(*(one * gpus / 3600 for one in (total, shortest, longest))),
        "total_steps": spec.total_steps,
        "probe": {"steps": float(len(steps)), **{name: round(value, 3) for name, value in seconds.items()}},
    }


def _planned(spec: RunSpec, device: str, model: Path) -> dict[str, object] | None:
    """What the memory is for, of each process that trains; None of a model whose folder cannot be read."""
    try:
        size = model_size(model)
    except InvalidSpec:
        return None
    return memory_plan(spec, size, Device(cpu=device == "cpu")).told()


def _phases(spec: RunSpec, measured: Measured) -> dict[str, float]:
    """Seconds of what is not a step, each time it happens."""
    rollout = spec.rollout
    sampled = [one.get("time/generate", 0.0) + one.get("time/score", 0.0) for one in measured.steps]
    each = max(sampled, default=0.0) / (rollout.prompts_per_step * rollout.samples_per_prompt)
    return {
        "start": measured.start,
        "preflight": PREFLIGHT_SAMPLES * each,
        **{
            name: max((one.get(f"time/{name}", 0.0) for one in measured.steps), default=0.0)
            for name in ("evaluate", "checkpoint", "diagnostics")
        },
    }


def _step_seconds(measured: Measured) -> list[float]:
    return [
        one["train/step_seconds"] - sum(one.get(name, 0.0) for name in _NOT_STEP) for one in measured.steps
    ]


def _counts(spec: RunSpec) -> dict[str, int]:
    """How often a run does what is not a step: evaluations also before the first step and after the last."""
    steps = spec.total_steps
    checks = spec.preflight is not None and spec.preflight.samples > 0 and steps > 0
    return {
        "preflight": int(checks),
        "evaluate": 0 if spec.validation_data is None else 1 + _times(steps, spec.evaluation.interval),
        "checkpoint": _times(steps, spec.checkpoint.interval),
        "diagnostics": math.ceil(steps / spec.diagnostics.interval) if spec.diagnostics.interval else 0,
    }


def _times(steps: int, interval: int) -> int:
    """How often something is due that happens every ``interval`` steps, and after the last one."""
    return math.ceil(steps / interval) if interval else 1


def _interval(
    value: float, low: float, high: float, below: float = MARGIN, above: float = MARGIN
) -> dict[str, float]:
    return {
        "value": round(value, 3),
        "low": round(low * (1 - below), 3),
        "high": round(high * (1 + above), 3),
    }
