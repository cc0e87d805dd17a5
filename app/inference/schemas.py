"""The chat completion request: OpenAI's, plus modes. What no engine here has is refused by name."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from app.core.parameters import Metadata
from app.inference.sampling import SamplingRequest, Strict
from trainer.graders.response_format import ResponseFormat
from trainer.spec.messages import ChatMessage, Tool

#: Parameters of OpenAI's that no engine here has, each with the values at which it asks for nothing.
REFUSED: dict[str, tuple[object, ...]] = {
    "audio": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "web_search_options": (None,),
}
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Unsupported = Annotated[object, Field(description="Not supported by any engine here; leave it out")]


class NamedFunction(Strict):
    """A function by its name."""

    name: str = Field(description="Name of one of the tools")


class ChosenTool(Strict):
    """The tool that the model must use."""

    type: Literal["function"] = Field(description="Always function")
    function: NamedFunction = Field(description="The function that must be called")


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[ChosenTool, Tag("tool")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "tool"),
]


class ChatCompletionRequest(SamplingRequest):
    """``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1, description="The conversation, oldest message first")
    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens per answer, including thinking; default: as many as fit the context",
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Older name of max_completion_tokens")
    logprobs: bool | None = Field(
        default=None, description="Return the log-probability of each token of the answer; default false"
    )
    top_logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Number of most likely tokens to return at each position, 0 to 20; needs logprobs",
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="The format answers must have; default: any text"
    )
    tools: list[Tool] | None = Field(
        default=None,
        description="Functions that the model may call, if its chat template supports tools",
    )
    tool_choice: ToolChoice | None = Field(
        default=None, description="none, auto (default with tools), required, or one tool by name"
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: at most one call per answer; default: any number"
    )
    reasoning_effort: Effort | None = Field(
        default=None,
        description="Passed to the model's chat template, as in training: as reasoning_effort if it reads "
        "that; if thinking can only be on or off, `none` and `minimal` turn it off and the "
        "others on; otherwise ignored",
    )
    verbosity: Literal["low", "medium", "high"] | None = Field(
        default=None, description="Ignored: ask for it in the prompt"
    )
    safety_identifier: str | None = Field(default=None, description="Ignored; for your own records")
    prompt_cache_key: str | None = Field(default=None, description="Accepted, but ignored here")
    prompt_cache_options: dict[str, object] | None = Field(
        default=None, description="Accepted, but ignored here"
    )
    prompt_cache_retention: Literal["in_memory", "24h"] | None = Field(
        default=None, description="Accepted, but ignored here"
    )
    prediction: dict[str, object] | None = Field(default=None, description="Expected answer; ignored")
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        default=None, description="Ignored: there is only one tier"
    )
    store: bool | None = Field(default=None, description="Ignored: answers are not stored here")
    metadata: Metadata | None = Field(default=None, description="Ignored: it belongs to stored answers")

    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    modalities: Unsupported = None
    moderation: Unsupported = None
    web_search_options: Unsupported = None

    @field_validator(*REFUSED)
    @classmethod
    def _not_supported(cls, value: object, info: ValidationInfo) -> object:
        neutral = REFUSED[info.field_name or ""]
        if value not in neutral:
            without_effect = [repr(one) for one in neutral if one is not None]
            alternative = f" or give {' or '.join(without_effect)}" if without_effect else ""
            raise ValueError(f"no engine here supports it; leave it out{alternative}")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("top_logprobs needs logprobs: true; give that, too")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatCompletionRequest":
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError(
                f"max_tokens is {self.max_tokens} and max_completion_tokens is "
                f"{self.max_completion_tokens}: they mean the same, so give one"
            )
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise ValueError("tool_choice is given without tools")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def extras(self) -> Iterator[tuple[str, object]]:
        yield from super().extras()
        if self.logprobs:
            yield "logprobs", True
        if self.top_logprobs:
            yield "top_logprobs", self.top_logprobs
        if self.response_format is not None and self.response_format.type != "text":
            yield "response_format", self.response_format.model_dump(by_alias=True, exclude_none=True)
        if self.tools:
            yield "tools", [tool.templated() for tool in self.tools]
            if self.tool_choice not in (None, "auto"):  # which is what tools alone mean
                choice = self.tool_choice
                yield "tool_choice", choice.model_dump() if isinstance(choice, ChosenTool) else choice
            if self.parallel_tool_calls is not None:
                yield "parallel_tool_calls", self.parallel_tool_calls
