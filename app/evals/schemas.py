"""What the creation and the change of evals and runs accept."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter, field_validator, model_validator

from app.core.parameters import Metadata
from app.evals.data_sources import DataSource
from trainer.graders.spec import Grader, StrictModel

MAX_CRITERIA = 32
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RunStatus = Literal["queued", "in_progress", "pausing", "paused", "completed", "failed", "canceled"]
ItemStatus = Literal["pass", "fail", "error"]
Order = Literal["asc", "desc"]
CRITERIA = TypeAdapter(list[Grader])


class CustomConfig(StrictModel):
    """The schema of the items."""

    type: Literal["custom"] = Field(description="Each run is given its rows")
    item_schema: dict[str, object] = Field(
        description="A JSON schema that each row's item must fit; {} accepts any object"
    )
    include_sample_schema: bool = Field(
        default=False,
        description="Whether criteria also read sample; shown in schema. They may do so either way",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_custom(cls, value: object) -> object:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in ("logs", "stored_completions"):
            raise ValueError(
                f"answers are not stored here, so an eval of the type {kind!r} has nothing to evaluate: "
                "give {'type': 'custom', 'item_schema': {…}}, and give each run its rows, or a model to "
                "query"
            )
        return value


class CreateEval(StrictModel):
    """The body of ``POST /v1/evals``."""

    name: Name = Field(default="Untitled eval", description="Your name for it; 1 to 256 characters")
    data_source_config: CustomConfig = Field(description="The schema of its runs' rows")
    testing_criteria: list[Grader] = Field(
        min_length=1,
        max_length=MAX_CRITERIA,
        description="1 to 32 graders for each answer; an item passes if it passes all of them. "
        "pass_threshold is on the grader's own scale; without it the full score is needed",
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 key-value pairs for your own records"
    )


class UpdateEval(StrictModel):
    """Fields left out stay as they are."""

    name: Name | None = Field(default=None, description="What to call it from now on")
    metadata: Metadata | None = Field(
        default=None, description="All of its pairs from now on; null or {} for none"
    )

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError(
                "name is null, but an eval must have one: leave it out, or give 1 to 256 characters"
            )
        return value


class CreateEvalRun(StrictModel):
    """The body of ``POST /v1/evals/{eval_id}/runs``."""

    name: Name | None = Field(default=None, description="Your name for it; default: the model's id")
    data_source: DataSource = Field(description="The rows, and which model is queried and how")
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 key-value pairs for your own records"
    )
