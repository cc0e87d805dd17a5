"""Checkpoints and permissions as the API's description has them."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class CheckpointObject(BaseModel):
    """OpenAI's checkpoint, with the prompt of its high-entropy mode."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    is_result: bool = Field(description="Whether the job's fine_tuned_model is, or so far would be, this one")
    result_reason: str | None = Field(description="Why it was chosen, where it was")
    metrics: dict[str, float | None]
    high_entropy_prompt: str
    high_entropy_placement: str
    chat_template_kwargs: dict[str, Any] | None


class PermissionObject(BaseModel):
    """A project that may use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"]
    created_at: int
    project_id: str


class PermissionDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["checkpoint.permission"]
    deleted: bool
