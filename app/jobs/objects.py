"""Jobs and events as the API's description has them; ``app.jobs.views`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.job_status import JobStatus
from app.core.strict_json import JsonObject
from trainer.spec.resources import Resources


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(
        description="Machine-readable code, such as grader_failed, out_of_memory or worker_lost"
    )
    message: str = Field(description="What went wrong and what to do about it, in words")
    param: str | None = Field(
        description="The job's field at fault, as a dotted path; null if not a single one"
    )


class JobHyperparameters(BaseModel):
    """The requested values, with every "auto" resolved; the others are in ``method``. Null where the
    service has lost them."""

    batch_size: int | None = Field(description="Prompts, or rows, per step")
    learning_rate_multiplier: float | None = Field(description="Factor on the method's learning rate")
    n_epochs: int | None = Field(description="Passes over the training data")


class Progress(BaseModel):
    """Training steps."""

    step: int = Field(description="Training steps done")
    total_steps: int = Field(description="Training steps of the whole job")


class JobObject(BaseModel):
    """OpenAI's job; from ``suffix`` on the fields are ours."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    object: Kind[Literal["fine_tuning.job"]]
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it ended, Unix time in seconds; null until then")
    estimated_finish: int | None = Field(
        description="Estimated end at the pace so far, Unix time in seconds; null unless it is running "
        "and has done some steps"
    )
    model: str = Field(description="The model it started from")
    fine_tuned_model: str | None = Field(
        description="Id of the result, used to query both modes; null until it has succeeded"
    )
    organization_id: str = Field(description="The operator's name for this service")
    status: JobStatus = Field(description="Status of the job; succeeded, failed and cancelled are final")
    error: JobError | None = Field(description="Why it failed; null otherwise")
    hyperparameters: JobHyperparameters = Field(description="The three that OpenAI's clients read, resolved")
    training_file: str | None = Field(description="Id of the training file; null with an environment")
    validation_file: str | None = Field(description="Id of the validation file; null if none")
    result_files: list[str] = Field(
        description="Ids of the metrics tables it wrote; empty until it has ended"
    )
    trained_tokens: int | None = Field(
        description="Response tokens trained on, known when it ends or pauses; null before"
    )
    seed: int = Field(description="Seed of all its randomness")
    integrations: list[JsonObject] = Field(description="Where else its metrics go; empty if nowhere")
    metadata: dict[str, str] | None = Field(description="The pairs given with it; null if none")
    method: JsonObject = Field(description="As given, with every default and every auto resolved")
    name: str = Field(description="Display name: its suffix, or else what it trains on")
    suffix: str | None = Field(description="The chosen part of the result's id; null if none")
    note: str | None = Field(description="Free-text note")
    tags: list[str] = Field(description="Labels put on it; empty if none")
    environment: JsonObject | None = Field(
        description="The reasoning-gym task its items come from; null with a training file"
    )
    validation_environment: JsonObject | None = Field(description="The task it is evaluated on; null if none")
    result_step: int | None = Field(
        description="The step whose checkpoint is fine_tuned_model (checkpoint.select); null: the last"
    )
    result_reason: str | None = Field(description="Why that step, in words")
    started_at: int | None = Field(
        description="When a worker first started it, Unix time in seconds; null until then"
    )
    attempt: int = Field(description="Number of times a worker has started it; 0 until the first")
    queue_position: int | None = Field(description="Position in the queue; 1: the next to run")
    progress: Progress = Field(description="Steps done of all")
    resources: Resources = Field(description="Its GPUs, with the launcher resolved")
    priority: int = Field(description="Waiting jobs with a higher priority run first")
    disk_bytes: int = Field(description="Size of its run directory")
    cancel_requested: bool = Field(
        description="Whether its cancellation was requested but its worker has not stopped yet"
    )


class EventObject(BaseModel):
    """What happened to a job."""

    id: str = Field(description="Id of the event, `ftevent-…`")
    object: Kind[Literal["fine_tuning.job.event"]]
    created_at: CreatedAt
    level: Literal["info", "warn", "error"] = Field(description="How serious it is")
    message: str = Field(description="What happened, in a sentence")
    type: Literal["message", "metrics"] = Field(
        description="metrics: data has a step's metrics; message: anything else"
    )
    data: JsonObject | None = Field(description="Numbers and names behind the message; null if none")


class Interval(BaseModel):
    """An expected number and its likely range."""

    value: float = Field(description="The expected number")
    low: float = Field(description="Lower end of the likely range")
    high: float = Field(description="Upper end of the likely range")


class JobValidation(BaseModel):
    """A body that ``POST`` would accept, and what it would create."""

    object: Kind[Literal["fine_tuning.job.validation"]]
    valid: Literal[True] = Field(description="Always true: an invalid body is answered with an error")
    total_steps: int = Field(description="Training steps the job would have")
    method: JsonObject = Field(description="The method, with every default and every auto resolved")


class JobDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id of the deleted job")
    object: Kind[Literal["fine_tuning.job"]]
    deleted: Deleted


class AttemptObject(BaseModel):
    """One worker's try at a job."""

    id: str = Field(description="The job's id and the attempt's number, `ftjob-…/1`")
    object: Kind[Literal["fine_tuning.job.attempt"]]
    attempt: int = Field(description="Number of the attempt, from 1")
    worker: str = Field(description="The worker's name: host, process and a random part")
    started_at: int = Field(description="When it started, Unix time in seconds")
    ended_at: int | None = Field(description="When it ended, Unix time in seconds; null while it runs")
    outcome: str | None = Field(
        description="succeeded, failed, cancelled, paused, released (its worker was stopped), crashed or "
        "lost; null while it runs"
    )
    cause: str | None = Field(
        description="Machine-readable reason for its end, such as finished, user, out_of_memory, grader, "
        "stalled; null while it runs"
    )
    message: str | None = Field(description="Why it ended, in words; null while it runs")
    log: str | None = Field(description="The end of the trainer's log")


class TimelineAttempt(BaseModel):
    """An attempt placed along the job's steps."""

    object: Kind[Literal["fine_tuning.job.attempt"]]
    attempt: int = Field(description="Number of the attempt, from 1")
    worker: str = Field(description="The worker's name: host, process and a random part")
    started_at: float = Field(description="When it started, Unix time in seconds")
    ended_at: float | None = Field(description="When it ended, Unix time in seconds; null while it runs")
    outcome: str | None = Field(description="How it ended, as in the list of attempts; null while it runs")
    step: int = Field(description="Steps done when it started")


class TimelineEvent(EventObject):
    """A message placed along the job's steps."""

    step: int = Field(description="Steps done when it was written")


class Timeline(BaseModel):
    """A job's attempts and its latest messages, oldest first."""

    object: Kind[Literal["fine_tuning.job.timeline"]]
    attempts: list[TimelineAttempt] = Field(description="All attempts at the job")
    events: list[TimelineEvent] = Field(description="The latest events of type message")
    last_event_id: str | None = Field(description="Id to send as Last-Event-ID to stream what follows")


class ReplayObject(BaseModel):
    """One repeated step. Its results, from ``matches`` on, are null until it has ended."""

    id: str = Field(description="Id of the replay, `ftreplay-…`")
    object: Kind[Literal["fine_tuning.job.replay"]]
    job_id: str = Field(description="The job the step belongs to")
    step: int = Field(description="The step being repeated, from 1")
    status: Literal["queued", "running", "succeeded", "failed"] = Field(
        description="queued until a worker is free, running during the replay, then succeeded or failed"
    )
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it finished, Unix time in seconds; null until then")
    matches: bool | None = Field(
        description="Whether the step gave the same result; null if the original was not recorded"
    )
    compared: dict[str, bool] | None = Field(
        description="For each part in both digests, whether it is the same"
    )
    source: str | None = Field(description="The state it started from")
    from_step: int | None = Field(description="Steps already done in the state it started from")
    digest: JsonObject | None = Field(
        description="Hashes of the repeated step: rollouts, rewards, gradient norm, weights"
    )
    recorded_digest: JsonObject | None = Field(
        description="Hashes of the original step; null if not recorded"
    )
    error: str | None = Field(description="Why it failed, in words; null otherwise")
