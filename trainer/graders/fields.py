"""What definitions of graders have in common (torch-free): names, templates, scales, endpoints."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from trainer.graders.templates import template_problem


class StrictModel(BaseModel):
    """Base of every spec: unknown keys, values of another type, NaN and Infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _checked_template(template: str) -> str:
    if problem := template_problem(template):
        raise ValueError(problem)
    return template


Template = Annotated[str, Field(max_length=1 << 20), AfterValidator(_checked_template)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=256, description="Its name in events, errors and formulas"),
]
T = TypeVar("T")
Type = Annotated[T, Field(description="Type of grader; each has its own fields")]
OperatorsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""A name that the operator has given to an endpoint or a secret; never the secret itself."""


class GraderFields(StrictModel):
    """What every grader has."""

    name: Name
    pass_threshold: float | None = Field(
        default=None,
        description="Accepted for compatibility with Azure and hosted evals; it does not change the "
        "reward, as an event says",
    )


class ScaleFields(GraderFields):
    """Of graders whose numbers somebody else's code gives."""

    range: list[float] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="The lowest and highest score, mapped to the rewards 0 and 1, such as [0, 5] for a "
        "rubric; default [0, 1]",
    )

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (value[0] < value[1] and abs(value[0]) < 1e9 and abs(value[1]) < 1e9):
            raise ValueError(f"the range {value} should be two numbers, the lower one first")
        return value

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = self.range or (0.0, 1.0)
        return low, high


class RemoteFields(GraderFields):
    """How a grader reaches an endpoint. The endpoint's key is the operator's and not in here."""

    concurrency: int = Field(default=8, ge=1, le=64, description="Concurrent requests")
    timeout_seconds: float = Field(default=60, gt=0, le=600, description="Time limit per attempt")
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Retries after a failed attempt, 0 to 10, with growing pauses"
    )
