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
    """The form of the items."""

    type: Literal["custom"] = Field(description="Rows are given with each run")
    item_schema: dict[str, object] = Field(
        description="A JSON schema that each row's item must fit; {} takes any object"
    )
    include_sample_schema: bool = Field(
        default=False,
        description="Whether criteria read sample, too; shown in schema. They may do so in either case",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_custom(cls, value: object) -> object:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in ("logs", "stored_completions"):
            raise ValueError(
                f"answers are not kept here, so an eval of the type {kind!r} has nothing to look at: give "
                "{'type': 'custom', 'item_schema': {…}}, and the rows, or a model to ask, with each run"
            )
        return value


class CreateEval(StrictModel):
    """The body of ``POST /v1/evals``."""

    name: Name = Field(default="Untitled eval", description="What you call it; 1 to 256 characters")
    data_source_config: CustomConfig = Field(description="The form of the rows that runs of it have")
    testing_criteria: list[Grader] = Field(
        min_length=1,
        max_length=MAX_CRITERIA,
        description="Graders of each answer, 1 to 32; an item passes when all of them do. pass_threshold is "
        "on the grader's own scale; without it the whole score is needed",
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )


class UpdateEval(StrictModel):
    """What is left out stays as it is."""

    name: Name | None = Field(default=None, description="What to call it from now on")
    metadata: Metadata | None = Field(
        default=None, description="All pairs that it is to have from now on; null or {} for none"
    )

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError("name is null, but an eval has one: leave it out, or give 1 to 256 characters")
        return value


class CreateEvalRun(StrictModel):
    """The body of ``POST /v1/evals/{eval_id}/runs``."""

    name: Name | None = Field(default=None, description="What you call it; default the model's id")
    data_source: DataSource = Field(description="The rows, and what is asked of which model")
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )
