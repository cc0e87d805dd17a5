"""What trying a grader takes and gives, in OpenAI's shape."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from trainer.graders.spec import Grader, StrictModel


class ValidateGrader(StrictModel):
    """The body of ``…/validate``."""

    grader: Grader = Field(description="The definition to check")
    training_file: str | None = Field(
        default=None,
        description="An uploaded file whose rows must have every field that the grader's templates read",
    )


class ValidGrader(StrictModel):
    """The answer of ``…/validate``: the definition as given."""

    grader: dict[str, object] = Field(description="The definition, field by field as given")


class RunGrader(StrictModel):
    """The body of ``…/run``."""

    grader: Grader = Field(description="The definition to try")
    model_sample: Annotated[str, StringConstraints(max_length=1_000_000)] = Field(
        description="The response to grade"
    )
    item: dict[str, object] = Field(default_factory=dict, description="What templates read as item")


class GraderErrors(BaseModel):
    """OpenAI's flags, all false if there is a reward."""

    formula_parse_error: bool = Field(
        default=False, description="Whether a multi grader's formula could not be evaluated on these scores"
    )
    invalid_variable_error: bool = Field(
        default=False, description="Whether a template reads something that item or sample does not have"
    )
    model_grader_parse_error: bool = Field(
        default=False, description="Whether the judge's answer lacks a score"
    )
    model_grader_refusal_error: bool = Field(default=False, description="Whether the judge refused to answer")
    model_grader_server_error: bool = Field(
        default=False, description="Whether the judge's endpoint failed or could not be reached"
    )
    model_grader_server_error_details: str | None = Field(
        default=None, description="The endpoint's error message; null without such an error"
    )
    other_error: bool = Field(
        default=False, description="Whether there was an error that no other flag covers"
    )
    python_grader_runtime_error: bool = Field(
        default=False, description="Whether the source raised an exception, or ran out of time or memory"
    )
    python_grader_runtime_error_details: str | None = Field(
        default=None, description="The exception and the end of its traceback; null without such an error"
    )
    python_grader_server_error: bool = Field(default=False, description="Whether the sandbox itself failed")
    python_grader_server_error_type: str | None = Field(
        default=None, description="How the sandbox failed; null without such an error"
    )
    sample_parse_error: bool = Field(
        default=False, description="Whether the response does not have the format that the grader reads"
    )
    truncated_observation_error: bool = Field(
        default=False, description="Whether the grader's input had been cut off"
    )
    unresponsive_reward_error: bool = Field(
        default=False, description="Whether the reward is missing or outside the allowed range"
    )


class GraderRunMetadata(BaseModel):
    """Details of a run. ``error`` is ours: what went wrong, in words."""

    errors: GraderErrors = Field(description="Kinds of error, one flag each")
    execution_time: float = Field(description="Seconds taken, without the grader's start")
    name: str = Field(description="Name of the grader, as given")
    sampled_model_name: str | None = Field(description="The judge model that answered; null if there is none")
    scores: dict[str, float] = Field(description="Scores by name, before any formula or range is applied")
    token_usage: int | None = Field(
        description="Tokens read and written by judges in total; null if there is none"
    )
    type: str = Field(description="Type of the grader, such as string_check")
    error: str | None = Field(description="What went wrong, in words; null if there is a reward")


class GraderRun(BaseModel):
    """The result. ``reward`` is 0 on an error, because OpenAI's type requires a number."""

    metadata: GraderRunMetadata = Field(description="This run's errors, scores, time and tokens")
    model_grader_token_usage_per_model: dict[str, dict[str, int]] = Field(
        description="Tokens by judge model: prompt_tokens, completion_tokens, total_tokens"
    )
    reward: float = Field(description="From 0 to 1; 0 beside an error")
    sub_rewards: dict[str, float] = Field(
        description="For a multi grader, each of its graders' scores by name; otherwise empty"
    )
