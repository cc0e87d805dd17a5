"""What trying a grader takes and gives, in OpenAI's shape."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from trainer.graders.spec import Grader, StrictModel


class ValidateGrader(StrictModel):
    """The body of ``…/validate``."""

    grader: Grader
    training_file: str | None = Field(
        default=None,
        description="An uploaded file, of which each row must have what the grader's templates read",
    )


class ValidGrader(StrictModel):
    """The answer of ``…/validate``: the definition as it was given."""

    grader: dict[str, object]


class RunGrader(StrictModel):
    """The body of ``…/run``."""

    grader: Grader
    model_sample: Annotated[str, StringConstraints(max_length=1_000_000)] = Field(
        description="The response to grade"
    )
    item: dict[str, object] = Field(default_factory=dict, description="What templates read as item")


class GraderErrors(BaseModel):
    """OpenAI's flags, all false when there is a reward."""

    formula_parse_error: bool = False
    invalid_variable_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_server_error: bool = False
    model_grader_server_error_details: str | None = None
    other_error: bool = False
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False


class GraderRunMetadata(BaseModel):
    """What there is to say about a run. ``error`` is ours: what went wrong, in words."""

    errors: GraderErrors
    execution_time: float = Field(description="Seconds, without the grader's start")
    name: str
    sampled_model_name: str | None
    scores: dict[str, float]
    token_usage: int | None
    type: str
    error: str | None


class GraderRun(BaseModel):
    """The result. ``reward`` is 0 beside an error, for OpenAI's type has no other number for none."""

    metadata: GraderRunMetadata
    model_grader_token_usage_per_model: dict[str, dict[str, int]]
    reward: float
    sub_rewards: dict[str, float]
