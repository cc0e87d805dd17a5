"""Jobs and events as the API's description has them; ``app.jobs.views`` makes them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.jobs.status import JobStatus


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
    suffix: str | None
    environment: dict[str, Any] | None
    validation_environment: dict[str, Any] | None
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
