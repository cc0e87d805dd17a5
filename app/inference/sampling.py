"""What both completion endpoints let a request say about sampling, and what an engine must have for it."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.graders.answers import REMEDY, gives_answers
from trainer.graders.spec import Grader
from trainer.spec.modes import Mode

#: Answers of a request together, over prompts and choices.
MAX_CHOICES = 128
MAX_STOP = 64
MAX_STOPS = 256
MIXED = "mixed"

Penalty = Annotated[float, Field(ge=-2, le=2)]
BiasedToken = Annotated[str, Field(pattern=r"^\d{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Stop = str | list[str]


class Strict(BaseModel):
    """Unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Strict):
    """What a stream carries besides text."""

    include_usage: bool = Field(
        default=False, description="End the stream with an extra chunk that has the token usage"
    )
    include_obfuscation: Literal[False] | None = Field(
        default=None, description="Not supported: leave it out, or give false"
    )


class BestOf(Strict):
    """Grade all ``n`` answers and return the best, each with its ``reward``."""

    grader: Grader = Field(description="The grader that gives each answer its reward")
    item: dict[str, object] = Field(
        default_factory=dict, description="What the grader's templates read as item, such as the right answer"
    )
    keep: int = Field(default=1, ge=1, description="Number of answers to return, best first")
    distinct: bool = Field(
        default=False,
        description="Return each distinct answer once, with its `count` among the n; the grader decides "
        "which are the same",
    )

    @model_validator(mode="after")
    def _grader_knows_answers(self) -> "BestOf":
        if self.distinct and not gives_answers(self.grader):
            raise ValueError(
                f"distinct is true, but this grader does not say which answers are equal: {REMEDY}"
            )
        return self


class SamplingRequest(Strict):
    """Fields of both endpoints. Sampling defaults are those of training: temperature 1, no top-p."""

    model: str = Field(
        min_length=1,
        description="Id of a model from GET /v1/models; the ending `:high-entropy` selects that mode",
    )
    mode: Literal["normal", "high-entropy", "mixed"] | None = Field(
        default=None,
        description="The mode to answer in, or mixed: choices alternate between both; default: as in the "
        "model's id",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Maximum tokens per answer; default: what the context has room for"
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0: greedy; default 1, as in training"
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample from the most likely tokens with this total probability; default 1: from all",
    )
    n: int | None = Field(
        default=None, ge=1, le=MAX_CHOICES, description="Answers per prompt, 1 to 128; default 1"
    )
    seed: int | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**63,
        description="The same seed and request give the same answer on the same engine; default: a new "
        "seed each time",
    )
    stop: Stop | None = Field(default=None, description="Up to 16 texts, any of which ends the answer")
    stream: bool | None = Field(
        default=None, description="Stream the answer as server-sent events; default false"
    )
    stream_options: StreamOptions | None = Field(
        default=None, description="What the stream carries besides text; only with stream"
    )
    presence_penalty: Penalty | None = Field(
        default=None,
        description="Subtracted once from the logits of tokens already in the answer, -2 to 2; default 0",
    )
    frequency_penalty: Penalty | None = Field(
        default=None,
        description="Subtracted from a token's logit for each occurrence in the answer, -2 to 2; default 0",
    )
    logit_bias: dict[BiasedToken, Bias] | None = Field(
        default=None, description="Value added to the logit, by token id"
    )
    best_of_n: BestOf | None = Field(default=None, description="Grade the n answers and return the best")
    user: str | None = Field(default=None, description="Ignored; for your own records")

    @field_validator("stop")
    @classmethod
    def _stops_are_texts(cls, value: Stop | None) -> Stop | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 16 or any(not stop for stop in stops):
            raise ValueError("give up to 16 texts, none of them empty")
        # An engine compares them with each token of its vocabulary before it begins.
        if any(len(stop) > MAX_STOP for stop in stops) or sum(map(len, stops)) > MAX_STOPS:
            raise ValueError(
                f"give texts of up to {MAX_STOP} characters, up to {MAX_STOPS} in total; the longest has "
                f"{max(map(len, stops))}, in total they have {sum(map(len, stops))}"
            )
        return value

    @model_validator(mode="after")
    def _sampling_agrees(self) -> "SamplingRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is given without stream: true")
        if self.mode == MIXED and self.choices < 2:
            raise ValueError("mode is 'mixed', which needs at least two answers: give n of 2 or more")
        if self.best_of_n is not None:
            if self.stream:
                raise ValueError(
                    "best_of_n is given with stream: true, but the best is only known at the end"
                )
            if self.best_of_n.keep > self.choices:
                raise ValueError(f"best_of_n.keep is {self.best_of_n.keep}, more than n, {self.choices}")
        return self

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def modes(self) -> tuple[Mode, ...] | None:
        """The modes that the body asks for, in which choices take turns; None: what the id says."""
        if self.mode is None:
            return None
        return (Mode.NORMAL, Mode.HIGH_ENTROPY) if self.mode == MIXED else (Mode(self.mode),)

    @property
    def token_limit(self) -> int | None:
        """Tokens an answer may have; None: the engine's usual limit, or what the context has room for."""
        return self.max_tokens

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def extras(self) -> Iterator[tuple[str, object]]:
        """Parameters, by name, that not every engine has, where they ask for something."""
        if self.presence_penalty:
            yield "presence_penalty", self.presence_penalty
        if self.frequency_penalty:
            yield "frequency_penalty", self.frequency_penalty
        if self.logit_bias:
            yield "logit_bias", self.logit_bias
