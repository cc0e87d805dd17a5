"""What trying a grader takes and gives, in OpenAI's shape."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from trainer.graders.spec import Grader, StrictModel


class ValidateGrader(StrictModel):
    """The body of ``…/validate``."""

    grader: Grader = Field(description="The definition to check")
    training_file: str | None = Field(
        default=None,
        description="An uploaded file, of which each row must have what the grader's templates read",
    )


class ValidGrader(StrictModel):
    """The answer of ``…/validate``: the definition as it was given."""

    grader: dict[str, object] = Field(description="The definition, field by field as it was given")


class RunGrader(StrictModel):
    """The body of ``…/run``."""

    grader: Grader = Field(description="The definition to try")
    model_sample: Annotated[str, StringConstraints(max_length=1_000_000)] = Field(
        description="The response to grade"
    )
    item: dict[str, object] = Field(default_factory=dict, description="What templates read as item")


class GraderErrors(BaseModel):
    """OpenAI's flags, all false when there is a reward."""

    formula_parse_error: bool = Field(
        default=False, description="true: the formula of a multi grader cannot be evaluated on these scores"
    )
    invalid_variable_error: bool = Field(
        default=False, description="true: a template reads what item or sample does not have"
    )
    model_grader_parse_error: bool = Field(
        default=False, description="true: the judge's answer holds no score"
    )
    model_grader_refusal_error: bool = Field(default=False, description="true: the judge refused to answer")
    model_grader_server_error: bool = Field(
        default=False, description="true: the judge's endpoint failed or was not reached"
    )
    model_grader_server_error_details: str | None = Field(
        default=None, description="What the endpoint said; null without such an error"
    )
    other_error: bool = Field(default=False, description="true: something that no other flag tells")
    python_grader_runtime_error: bool = Field(
        default=False, description="true: the source raised, ran out of time or of memory"
    )
    python_grader_runtime_error_details: str | None = Field(
        default=None, description="The exception and the end of its traceback; null without such an error"
    )
    python_grader_server_error: bool = Field(default=False, description="true: the sandbox itself failed")
    python_grader_server_error_type: str | None = Field(
        default=None, description="How the sandbox failed; null without such an error"
    )
    sample_parse_error: bool = Field(
        default=False, description="true: the response is not of the form that the grader reads"
    )
    truncated_observation_error: bool = Field(
        default=False, description="true: what the grader saw had been cut off"
    )
    unresponsive_reward_error: bool = Field(
        default=False, description="true: there is no reward within the allowed range"
    )


class GraderRunMetadata(BaseModel):
    """What there is to say about a run. ``error`` is ours: what went wrong, in words."""

    errors: GraderErrors = Field(description="Which kind of error there was, one flag each")
    execution_time: float = Field(description="Seconds, without the grader's start")
    name: str = Field(description="As the definition says")
    sampled_model_name: str | None = Field(description="The judge model that answered; null without one")
    scores: dict[str, float] = Field(
        description="Each score by its name, before a formula or a range is applied"
    )
    token_usage: int | None = Field(
        description="Tokens that judges read and wrote together; null without one"
    )
    type: str = Field(description="Which kind of grader it was, such as string_check")
    error: str | None = Field(description="What went wrong, in words; null when there is a reward")


class GraderRun(BaseModel):
    """The result. ``reward`` is 0 beside an error, for OpenAI's type has no other number for none."""

    metadata: GraderRunMetadata = Field(description="Errors, scores, time and tokens of this run")
    model_grader_token_usage_per_model: dict[str, dict[str, int]] = Field(
        description="Tokens by judge model: prompt_tokens, completion_tokens, total_tokens"
    )
    reward: float = Field(description="From 0 to 1; 0 beside an error")
    sub_rewards: dict[str, float] = Field(
        description="Of a multi grader, the score of each of its graders by name; else empty"
    )
