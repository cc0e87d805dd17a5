"""The chat completion request: OpenAI's, plus ``mode``. What the engine would ignore is refused by name."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainer.modes import Message, Mode

DEFAULT_MAX_TOKENS = 1024

#: Parameters of OpenAI's that no engine here has, each with the values at which it asks for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "reasoning_effort": (None,),
    "response_format": (None, {"type": "text"}),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "verbosity": (None,),
    "web_search_options": (None,),
}


class Strict(BaseModel):
    """Unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(Strict):
    """A part of a message's content. Models here read text only."""

    type: Literal["text"]
    text: str


# Told apart by what is given, so that an error speaks of that and not of the alternative.
Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class ChatMessage(Strict):
    """A turn. The keys after ``content`` are those of an answer that is sent back; they must be empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    function_call: None = None
    tool_calls: list[Any] | None = Field(default=None, max_length=0)
    reasoning_content: str | None = Field(
        default=None, description="A model's earlier thoughts are not shown to it again"
    )

    def templated(self) -> Message:
        """The message as chat templates know it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        # "developer" is the newer name of "system"; templates know the older one.
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(Strict):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class ChatCompletionRequest(Strict):
    """``POST /v1/chat/completions``. Sampling defaults are those of training: temperature 1, no top-p."""

    model: str = Field(min_length=1)
    messages: list[ChatMessage] = Field(min_length=1)
    mode: Literal["normal", "high-entropy"] | None = Field(
        default=None, description="The mode to answer in; default: what the model's id says"
    )
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1, description="The older name of max_completion_tokens")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: int | None = Field(default=None, ge=1, le=128)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = Field(
        default=None, description="Up to 16 texts, each of which ends an answer"
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="For your own records; changes nothing")
    safety_identifier: str | None = Field(default=None, description="For your own records; changes nothing")
    prompt_cache_key: str | None = Field(default=None, description="A hint; changes nothing")

    audio: Any = None
    frequency_penalty: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    metadata: Any = None
    modalities: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    presence_penalty: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    service_tier: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    @field_validator(*REFUSED)
    @classmethod
    def _not_supported(cls, value: Any, info: ValidationInfo) -> Any:
        neutral = REFUSED[info.field_name or ""]
        if value not in neutral:
            without_effect = [repr(one) for one in neutral if one is not None]
            alternative = f" or give {' or '.join(without_effect)}" if without_effect else ""
            raise ValueError(f"the engine that serves this model does not have it; leave it out{alternative}")
        return value

    @field_validator("stop")
    @classmethod
    def _stops_are_texts(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 16 or any(not stop for stop in stops):
            raise ValueError("give up to 16 texts, none of them empty")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatCompletionRequest":
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError(
                f"max_tokens is {self.max_tokens} and max_completion_tokens is {self.max_completion_tokens}: "
                "they mean the same, give one"
            )
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is given without stream: true, which it belongs to")
        return self

    @property
    def wanted_mode(self) -> Mode | None:
        return None if self.mode is None else Mode(self.mode)

    @property
    def token_limit(self) -> int:
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []
