"""The events of a run: one JSON object per line in ``events.jsonl``, appended and flushed.

The worker relays these lines to the database; a researcher without the service reads the file. Torch-free.
A run that resumes from step k writes the events of the steps after k again; readers key metrics by
(step, name), rollouts by (step, group, index) and checkpoints by step, so a repetition changes nothing.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, field_serializer

from trainer.spec.modes import Mode, Placement
from trainer.statistics.outcomes import ModeLabel, ModeOutcomes


class Record(BaseModel):
    """Base of all events: unknown keys are refused. Unlike a spec, they may contain non-finite numbers."""

    model_config = ConfigDict(extra="forbid")


class Timestamped(Record):
    """Every event carries the wall-clock time at which it was written, unix seconds."""

    time: float = Field(default_factory=time.time)


class Started(Timestamped):
    """The model is loaded; training begins after ``step`` finished steps (0 unless resumed)."""

    type: Literal["started"] = "started"
    step: int
    total_steps: int
    parameters: int
    device: str


class MessageEvent(Timestamped):
    """A sentence for the user."""

    type: Literal["message"] = "message"
    level: Literal["info", "warn", "error"] = "info"
    message: str
    data: dict[str, Any] = Field(default_factory=dict)


class Phase(Timestamped):
    """The trainer entered a phase: progress inside a long step, for liveness."""

    type: Literal["phase"] = "phase"
    step: int
    phase: str


class StepDigest(Record):
    """A step's digest: equal digests mean equal steps (``trainer.checkpoints.digest``). SHA-256, hex."""

    rollouts: str = Field(description="Of what was sampled, or of the rows: items, modes, token ids")
    rewards: str = Field(description="Of the grader's results; for rows, which tokens are learnt")
    grad_norm: float
    weights: str | None = Field(
        default=None, description="Of the trained weights after the step, at checkpoints"
    )


class GraderUse(Record):
    """What a grader did with responses; the numbers are sums over them."""

    name: str
    type: str = Field(description="As its definition says; function: the caller's own reward function")
    graded: int = Field(description="Number of responses with a reward")
    rewards: float
    errors: dict[str, int] = Field(description="By kind; sample_parse_error also: not of the response_format")
    seconds: float
    tokens: dict[str, dict[str, int]] = Field(description="Tokens read and written, by judge model")


class Grading(Record):
    """How a mode's responses of a step, or of an evaluation, were graded."""

    mode: Mode
    responses: int
    reasoning_tokens: int
    graders: list[GraderUse] = Field(
        description="The run's grader first, then those within it if it is a multi"
    )


class StepMetrics(Timestamped):
    """All scalar metrics of a step (steps count from 1; evaluation before training is step 0)."""

    type: Literal["metrics"] = "metrics"
    step: int
    total_steps: int
    values: dict[str, float]
    digest: StepDigest | None = Field(default=None, description="None if nothing was trained")
    train: list[Grading] = Field(default_factory=list[Grading], description="Of the step's responses")
    valid: list[Grading] = Field(
        default_factory=list[Grading], description="Of its evaluation, if it had one"
    )

    @field_serializer("values")
    def _finite_only(self, values: dict[str, float]) -> dict[str, float]:
        # JSON has no NaN: a metric that is undefined at a step (no truncated row, say) has no point there.
        return {name: float(value) for name, value in values.items() if math.isfinite(value)}


class EvaluationOutcomes(Timestamped):
    """The last evaluation item by item, so that runs can be compared with each other in pairs."""

    type: Literal["outcomes"] = "outcomes"
    step: int
    modes: dict[ModeLabel, ModeOutcomes]


class RolloutRecord(Record):
    """One sampled response."""

    group: int = Field(description="Index of the prompt within the step")
    index: int = Field(description="Index of the response within the group")
    item: int = Field(description="Index of the item in the training data")
    mode: Mode = Field(description="The behaviour mode, which produced it")
    prompt: str
    response: str
    reward: float | None = Field(description="None if the grader failed on it")
    scores: dict[str, float] = Field(default_factory=dict)
    parse_error: str | None = Field(default=None, description="Why it is not of the run's response_format")
    tokens: int
    truncated: bool
    dropped: bool = Field(default=False, description="Its group had nothing to teach and was replaced")
    logprobs: list[float] = Field(description="Per response token, nats, under the behaviour mode")
    entropies: list[float] = Field(
        description="Per response token, nats, full vocabulary; empty where the response was not scored"
    )
    token_texts: list[str]


class Rollouts(Timestamped):
    """The rollouts of a step."""

    type: Literal["rollouts"] = "rollouts"
    step: int
    rollouts: list[RolloutRecord]


class CheckpointSaved(Timestamped):
    """A checkpoint folder is complete. ``path`` is relative to the run directory."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    high_entropy_prompt: str
    high_entropy_placement: Placement = "system"
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    manifest_sha256: str
    metrics: dict[str, float] = Field(default_factory=dict)


class CheckpointRemoved(Timestamped):
    """A checkpoint was removed by the retention rule."""

    type: Literal["checkpoint_removed"] = "checkpoint_removed"
    step: int


class Finished(Timestamped):
    """The run did all its steps; the checkpoint of ``result_step`` is its result, for ``reason``."""

    type: Literal["finished"] = "finished"
    step: int
    trained_tokens: int
    result_step: int | None = Field(default=None, description="None: that of step")
    reason: str | None = None
    peak_memory_bytes: int | None = Field(
        default=None, description="Of the device, reserved; on a CPU the process's resident memory"
    )


class Stopped(Timestamped):
    """The run was asked to stop (SIGTERM) and can be resumed after ``step``."""

    type: Literal["stopped"] = "stopped"
    step: int
    trained_tokens: int


class Failed(Timestamped):
    """The run cannot go on. ``param`` names the part of the spec at fault, where there is one."""

    type: Literal["failed"] = "failed"
    code: str
    message: str
    param: str | None = None


Event = Annotated[
    Started
    | MessageEvent
    | Phase
    | StepMetrics
    | EvaluationOutcomes
    | Rollouts
    | CheckpointSaved
    | CheckpointRemoved
    | Finished
    | Stopped
    | Failed,
    Field(discriminator="type"),
]
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
_BLOCK = 1 << 16


class EventWriter:
    """Appends events to a file, each line flushed whole."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def write(self, event: Event) -> None:
        """Append one line; raises OSError, leaving no half of a line, when the disk is full."""
        line = memoryview(event.model_dump_json().encode() + b"\n")
        written = 0
        with self._lock:  # sampling ahead is reported from its own thread
            try:
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                # What follows must not be appended to a torn line. /dev/null has no length to set.
                with contextlib.suppress(OSError):
                    self._file.truncate(self._file.tell() - written)
                raise

    def sync(self) -> None:
        """Return once everything written is on the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _drop_torn_line(path: Path) -> None:
    """Remove the half of a line that a writer left at the end which was killed."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        kept = size = file.seek(0, os.SEEK_END)
        while kept:
            start = max(0, kept - _BLOCK)
            file.seek(start)
            if (found := file.read(kept - start).rfind(b"\n")) >= 0:
                kept = start + found + 1
                break
            kept = start
        if kept < size:
            file.truncate(kept)


def parse_event(line: bytes | str) -> Event:
    """One line as an event; raises pydantic.ValidationError if it is not one."""
    return _ADAPTER.validate_json(line)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events from byte ``offset`` on, each with the offset after its line.

    A last line without its newline is still being written and is left for the next call.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        while (line := file.readline()).endswith(b"\n"):
            offset += len(line)
            yield parse_event(line), offset
