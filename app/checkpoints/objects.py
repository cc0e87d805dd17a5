"""Checkpoints and permissions as the API's description has them."""

from typing import Any, Literal

from pydantic import BaseModel


class CheckpointObject(BaseModel):
    """OpenAI's checkpoint, with the prompt of its high-entropy mode."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
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
