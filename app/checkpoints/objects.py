"""Checkpoints and permissions as the API's description has them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.strict_json import JsonObject


class CheckpointObject(BaseModel):
    """OpenAI's checkpoint, with the prompt of its high-entropy mode."""

    id: str = Field(description="Id of this checkpoint, `ftckpt_…`")
    object: Kind[Literal["fine_tuning.job.checkpoint"]]
    created_at: CreatedAt
    fine_tuned_model_checkpoint: str = Field(
        description="Model id, to query it or to continue training from it"
    )
    fine_tuning_job_id: str = Field(description="The job that saved it")
    step_number: int = Field(description="Training steps the weights have had; 0 before the first")
    is_result: bool = Field(description="Whether it is the job's fine_tuned_model, or would be so far")
    result_reason: str | None = Field(description="Why it was chosen, if it was")
    metrics: dict[str, float | None] = Field(
        description="Evaluation at this step, under OpenAI's names and ours; rewards and accuracies from "
        "0 to 1, null if not measured"
    )
    high_entropy_prompt: str = Field(
        description="The text that switches the high-entropy mode on; empty if only one mode was trained"
    )
    high_entropy_placement: str = Field(
        description="Where that text goes: system, in the system message; user_prefix, before the first "
        "user message"
    )
    chat_template_kwargs: JsonObject | None = Field(
        description="Chat template variables used in training, and again whenever the checkpoint is queried"
    )


class PermissionObject(BaseModel):
    """A project that may use a checkpoint."""

    id: str = Field(description="Id of the permission, `cp_…`, used to delete it")
    object: Kind[Literal["checkpoint.permission"]]
    created_at: CreatedAt
    project_id: str = Field(description="The project that may use the checkpoint")


class PermissionDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id of the deleted permission")
    object: Kind[Literal["checkpoint.permission"]]
    deleted: Deleted
