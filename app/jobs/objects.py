"""Jobs and events as the API's description has them; ``app.jobs.views`` makes them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.job_status import JobStatus
from trainer.spec.resources import Resources


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="A word for programs, such as grader_failed, out_of_memory or worker_lost")
    message: str = Field(description="What went wrong and what to do about it, for people")
    param: str | None = Field(
        description="The field of the job at fault, dotted; null where it is not one field"
    )


class JobHyperparameters(BaseModel):
    """What was asked for, with every "auto" resolved; the others are in ``method``."""

    batch_size: int = Field(description="Prompts, or rows, a step")
    learning_rate_multiplier: float = Field(
        description="Times the rate that the method begins with is the learning rate"
    )
    n_epochs: int = Field(description="Passes over the training data")


class Progress(BaseModel):
    """Training steps."""

    step: int = Field(description="Training steps that are done")
    total_steps: int = Field(description="Training steps that the whole job has")


class JobObject(BaseModel):
    """OpenAI's job; from ``suffix`` on the fields are ours."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    object: Kind[Literal["fine_tuning.job"]]
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it ended, Unix time in seconds; null until then")
    estimated_finish: int | None = Field(
        description="When it will have ended at the pace of the steps so far, Unix time in seconds; null "
        "unless it runs and has done some"
    )
    model: str = Field(description="The model that it started from")
    fine_tuned_model: str | None = Field(
        description="Id of the result, by which both modes are asked; null until it has succeeded"
    )
    organization_id: str = Field(description="What the operator has called this service")
    status: JobStatus = Field(description="Where the job stands; succeeded, failed and cancelled are final")
    error: JobError | None = Field(description="Why it failed; null otherwise")
    hyperparameters: JobHyperparameters = Field(
        description="The three of OpenAI's that its clients read, resolved"
    )
    training_file: str | None = Field(description="Id of the file that it trains on; null with environment")
    validation_file: str | None = Field(
        description="Id of the file that it is evaluated on; null without one"
    )
    result_files: list[str] = Field(
        description="Ids of the tables of metrics that it wrote; empty until it has ended"
    )
    trained_tokens: int | None = Field(
        description="Response tokens that were trained on, as told at its end or pause; null before"
    )
    seed: int = Field(description="What all of its randomness is derived from")
    integrations: list[dict[str, Any]] = Field(description="Where else its metrics go; empty for nowhere")
    metadata: dict[str, str] | None = Field(
        description="Pairs that were given with it; null where there are none"
    )
    method: dict[str, Any] = Field(description="As it was given, with every default and every auto resolved")
    name: str = Field(description="What people call it: its suffix, else what it trains on")
    suffix: str | None = Field(description="The part of the result's id that was chosen; null without one")
    note: str | None = Field(description="What somebody wrote about it")
    tags: list[str] = Field(description="Words that people put on it; empty for none")
    environment: dict[str, Any] | None = Field(
        description="The reasoning-gym task that its items are drawn from; null with a training file"
    )
    validation_environment: dict[str, Any] | None = Field(
        description="The task that it is evaluated on; null without one"
    )
    result_step: int | None = Field(
        description="The step whose checkpoint is fine_tuned_model (checkpoint.select); null: the last one"
    )
    result_reason: str | None = Field(description="Why that one, in words")
    started_at: int | None = Field(
        description="When a worker first began with it, Unix time in seconds; null until then"
    )
    attempt: int = Field(description="How many times a worker has begun with it; 0 until the first")
    queue_position: int | None = Field(description="1: the next to run")
    progress: Progress = Field(description="Steps done of all")
    resources: Resources = Field(description="The GPUs that it is to have, with its launcher resolved")
    priority: int = Field(description="Of waiting jobs, those with a higher one run first")
    disk_bytes: int = Field(description="What its run directory holds")
    cancel_requested: bool = Field(description="true: it is to stop for good, and its worker has not yet")


class EventObject(BaseModel):
    """What happened to a job."""

    id: str = Field(description="Id of the event, `ftevent-…`")
    object: Kind[Literal["fine_tuning.job.event"]]
    created_at: CreatedAt
    level: Literal["info", "warn", "error"] = Field(description="How serious it is")
    message: str = Field(description="What happened, in a sentence")
    type: Literal["message", "metrics"] = Field(
        description="metrics: a step's metrics are in data; message: anything else"
    )
    data: dict[str, Any] | None = Field(description="Numbers and names behind the sentence; null without any")


class Interval(BaseModel):
    """A number that is expected, and between what it probably is."""

    value: float = Field(description="The expected number")
    low: float = Field(description="Lower end of what is probable")
    high: float = Field(description="Upper end of what is probable")


class JobValidation(BaseModel):
    """A body that ``POST`` would take, and what it would make of it."""

    object: Kind[Literal["fine_tuning.job.validation"]]
    valid: Literal[True] = Field(description="Always true: what is not valid is answered with an error")
    total_steps: int = Field(description="Training steps that the job would have")
    method: dict[str, Any] = Field(description="With every default and every auto resolved")


class JobDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id that the job had")
    object: Kind[Literal["fine_tuning.job"]]
    deleted: Deleted


class AttemptObject(BaseModel):
    """One worker's turn at a job."""

    id: str = Field(description="The job's id and the attempt's number, `ftjob-…/1`")
    object: Kind[Literal["fine_tuning.job.attempt"]]
    attempt: int = Field(description="Which turn this was, from 1")
    worker: str = Field(description="Name of the worker: host, process and a random part")
    started_at: int = Field(description="When it began, Unix time in seconds")
    ended_at: int | None = Field(description="When it ended, Unix time in seconds; null while it runs")
    outcome: str | None = Field(
        description="succeeded, failed, cancelled, paused, released (its worker was stopped), crashed or "
        "lost; null while it runs"
    )
    cause: str | None = Field(
        description="Why it ended, in a word, such as finished, user, out_of_memory, grader, stalled; null "
        "while it runs"
    )
    message: str | None = Field(description="Why it ended, in a sentence; null while it runs")
    log: str | None = Field(description="The end of what the trainer wrote")


class TimelineAttempt(BaseModel):
    """An attempt on the axis of the job's steps."""

    object: Kind[Literal["fine_tuning.job.attempt"]]
    attempt: int = Field(description="Which turn this was, from 1")
    worker: str = Field(description="Who had the job: host, process and a random part")
    started_at: float = Field(description="When it began, Unix time in seconds")
    ended_at: float | None = Field(description="When it ended, Unix time in seconds; null while it runs")
    outcome: str | None = Field(description="How it ended, as in the list of attempts; null while it runs")
    step: int = Field(description="How many steps were done when it began")


class TimelineEvent(EventObject):
    """A message on the axis of the job's steps."""

    step: int = Field(description="How many steps were done when it was written")


class Timeline(BaseModel):
    """A job's attempts and its latest messages, oldest first."""

    object: Kind[Literal["fine_tuning.job.timeline"]]
    attempts: list[TimelineAttempt] = Field(description="Every worker's turn at the job")
    events: list[TimelineEvent] = Field(description="The latest messages, without metrics")
    last_event_id: str | None = Field(description="Where a stream of what follows begins")


class ReplayObject(BaseModel):
    """One step that was done again. What came of it, from ``matches`` on, is null until it is over."""

    id: str = Field(description="Id of the replay, `ftreplay-…`")
    object: Kind[Literal["fine_tuning.job.replay"]]
    job_id: str = Field(description="The job whose step it is")
    step: int = Field(description="Which step is done again, from 1")
    status: Literal["queued", "running", "succeeded", "failed"] = Field(
        description="queued until a worker is free, running while it is done, then succeeded or failed"
    )
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it was done, Unix time in seconds; null until then")
    matches: bool | None = Field(description="Whether the step came to the same; null: it was not recorded")
    compared: dict[str, bool] | None = Field(description="Of each part that both digests have: the same?")
    source: str | None = Field(description="What it began from")
    from_step: int | None = Field(description="How many steps were already in what it began from")
    digest: dict[str, Any] | None = Field(
        description="Hashes of the step as it came out now: rollouts, rewards, gradient norm, weights"
    )
    recorded_digest: dict[str, Any] | None = Field(
        description="The same of the step when the job did it; null where none was recorded"
    )
    error: str | None = Field(description="Why it failed, in a sentence; null otherwise")
