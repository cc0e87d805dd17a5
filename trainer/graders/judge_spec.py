"""Definitions of graders that a judge model does the work of (torch-free)."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

from trainer.graders.fields import (
    Name,
    OperatorsName,
    RemoteFields,
    ScaleFields,
    StrictModel,
    Template,
    Type,
)

Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class JudgeFields(RemoteFields):
    """Where a model answers, by OpenAI's API."""

    model: str = Field(min_length=1, max_length=256, description="Name of the judge model at its endpoint")
    endpoint: OperatorsName | None = Field(
        default=None, description="Name of one of the operator's endpoints; default: default"
    )
    base_url: str | None = Field(
        default=None,
        max_length=2048,
        description="An endpoint without a key, instead of one of the operator's, such as https://host/v1",
    )

    @model_validator(mode="after")
    def _one_endpoint(self) -> "JudgeFields":
        if self.endpoint is not None and self.base_url is not None:
            raise ValueError("both endpoint and base_url are given: give one of them")
        return self


class JudgeText(StrictModel):
    """A piece of a message."""

    type: Literal["input_text", "output_text"] = Field(
        description="input_text and output_text mean the same here"
    )
    text: Template = Field(description="The text, in which {{item.…}} and {{sample.…}} are filled in")


def _kind_of_content(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "part"


OnePart = Annotated[
    Annotated[Template, Tag("text")] | Annotated[JudgeText, Tag("part")], Discriminator(_kind_of_content)
]
Content = Annotated[
    Annotated[Template, Tag("text")]
    | Annotated[JudgeText, Tag("part")]
    | Annotated[list[OnePart], Field(min_length=1), Tag("list")],
    Discriminator(_kind_of_content),
]


class JudgeMessage(StrictModel):
    """A message to a judge; only text, with templates."""

    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who speaks")
    content: Content = Field(description="A template, or a list of texts to be joined by newlines")
    type: Literal["message"] | None = Field(default=None, description="May be message; ignored")

    @property
    def template(self) -> str:
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class SamplingParams(StrictModel):
    """How the judge answers."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0: greedy; default: the endpoint's"
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample from the most likely tokens with this total probability; default: the endpoint's",
    )
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="For reproducible answers; default: none"
    )
    max_completions_tokens: int | None = Field(
        default=None,
        ge=1,
        lt=2**31,
        description="Maximum tokens of the judge's answer; default: the endpoint's",
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How long a reasoning judge may think; default: the endpoint's"
    )


class ScoreModelGrader(JudgeFields, ScaleFields):
    """A judge model's score, scaled from ``range`` to a reward from 0 to 1."""

    type: Type[Literal["score_model"]] = "score_model"
    name: Name = "score_model"
    input: list[JudgeMessage] = Field(
        min_length=1,
        max_length=64,
        description="Conversation, with templates, that the judge answers with a number",
    )
    sampling_params: SamplingParams | None = Field(
        default=None, description="How the judge samples; default: as its endpoint does"
    )


class LabelModelGrader(JudgeFields):
    """1.0 if a judge model gives the response a label that passes, else 0.0."""

    type: Type[Literal["label_model"]] = "label_model"
    name: Name = "label_model"
    input: list[JudgeMessage] = Field(
        min_length=1,
        max_length=64,
        description="Conversation, with templates, that the judge answers with a label",
    )
    labels: list[Label] = Field(
        min_length=1, max_length=100, description="Labels the judge chooses from: up to 100 different texts"
    )
    passing_labels: list[Label] = Field(
        min_length=1, description="Labels with the reward 1; the others have 0"
    )
    sampling_params: SamplingParams | None = Field(
        default=None, description="How the judge samples; default: as its endpoint does"
    )

    @field_validator("labels")
    @classmethod
    def _differ(cls, value: list[str]) -> list[str]:
        for label in value:
            if value.count(label) > 1:
                raise ValueError(f"the label {label[:80]!r} appears {value.count(label)} times: give it once")
        return value

    @model_validator(mode="after")
    def _passing_are_labels(self) -> "LabelModelGrader":
        for label in self.passing_labels:
            if label not in self.labels:
                raise ValueError(f"passing_labels has {label[:80]!r}, which labels does not have")
        return self


class CreativeWritingGrader(JudgeFields):
    """Five criteria that a judge model scores; the reward is their mean, as a share of ``scale``."""

    type: Type[Literal["creative_writing"]] = "creative_writing"
    name: Name = "creative_writing"
    input: Template = Field(default="{{sample.output_text}}", description="The text to score: a template")
    prompt: Template = Field(default="{{item.prompt}}", description="The prompt that the text answers")
    scale: Literal[10, 20] = Field(default=20, description="The best score for a criterion")
    sampling_params: SamplingParams | None = Field(
        default=None, description="How the judge samples; default: as its endpoint does"
    )
