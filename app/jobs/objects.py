"""Jobs and events as the API's description has them; ``app.jobs.views`` makes them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.job_status import JobStatus


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class JobHyperparameters(BaseModel):
    """What was asked for, with every "auto" resolved; the others are in ``method``."""

    batch_size: int
    learning_rate_multiplier: float
    n_epochs: int


class Progress(BaseModel):
    """Training steps."""

    step: int
    total_steps: int


class JobObject(BaseModel):
    """OpenAI's job; from ``suffix`` on the fields are ours."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None = Field(description="While it runs and a few steps are done")
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: JobStatus
    error: JobError | None
    hyperparameters: JobHyperparameters
    training_file: str | None
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    method: dict[str, Any] = Field(description="As it was given, with every default and every auto resolved")
    name: str = Field(description="What people call it: its suffix, else what it trains on")
    suffix: str | None
    note: str | None = Field(description="What somebody wrote about it")
    tags: list[str]
    environment: dict[str, Any] | None
    validation_environment: dict[str, Any] | None
    result_step: int | None = Field(
        description="The step whose checkpoint is fine_tuned_model (checkpoint.select); null: the last one"
    )
    result_reason: str | None = Field(description="Why that one, in words")
    started_at: int | None
    attempt: int
    queue_position: int | None = Field(description="1: the next to run")
    progress: Progress
    priority: int = Field(description="Of waiting jobs, those with a higher one run first")
    disk_bytes: int = Field(description="What its run directory holds")
    cancel_requested: bool


class EventObject(BaseModel):
    """What happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class JobValidation(BaseModel):
    """A body that ``POST`` would take, and what it would make of it."""

    object: Literal["fine_tuning.job.validation"]
    valid: Literal[True]
    total_steps: int
    method: dict[str, Any] = Field(description="With every default and every auto resolved")


class JobDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["fine_tuning.job"]
    deleted: Literal[True]


class AttemptObject(BaseModel):
    """One worker's turn at a job."""

    id: str
    object: Literal["fine_tuning.job.attempt"]
    attempt: int
    worker: str
    started_at: int
    ended_at: int | None
    outcome: str | None
    cause: str | None
    message: str | None
    log: str | None = Field(description="The end of what the trainer wrote")


class TimelineAttempt(BaseModel):
    """An attempt on the axis of the job's steps."""

    object: Literal["fine_tuning.job.attempt"]
    attempt: int
    worker: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    step: int = Field(description="How many steps were done when it began")


class TimelineEvent(EventObject):
    """A message on the axis of the job's steps."""

    step: int = Field(description="How many steps were done when it was written")


class Timeline(BaseModel):
    """A job's attempts and its latest messages, oldest first."""

    object: Literal["fine_tuning.job.timeline"]
    attempts: list[TimelineAttempt]
    events: list[TimelineEvent]
    last_event_id: str | None = Field(description="Where a stream of what follows begins")


class ReplayObject(BaseModel):
    """One step that was done again. What came of it, from ``matches`` on, is null until it is over."""

    id: str
    object: Literal["fine_tuning.job.replay"]
    job_id: str
    step: int
    status: Literal["queued", "running", "succeeded", "failed"]
    created_at: int
    finished_at: int | None
    matches: bool | None = Field(description="Whether the step came to the same; null: it was not recorded")
    compared: dict[str, bool] | None = Field(description="Of each part that both digests have: the same?")
    source: str | None = Field(description="What it began from")
    from_step: int | None
    digest: dict[str, Any] | None
    recorded_digest: dict[str, Any] | None
    error: str | None
