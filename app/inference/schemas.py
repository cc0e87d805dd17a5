"""The chat completion request: OpenAI's, plus modes. What no engine here has is refused by name."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from app.inference.sampling import SamplingRequest, Strict
from trainer.modes import Message

#: Parameters of OpenAI's that no engine here has, each with the values at which it asks for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "prediction": (None,),
    "prompt_cache_options": (None,),
    "prompt_cache_retention": (None,),
    "reasoning_effort": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "verbosity": (None,),
    "web_search_options": (None,),
}


class TextPart(Strict):
    """A part of a message's content. Models here read text only."""

    type: Literal["text"]
    text: str


# Told apart by what is given, so that an error speaks of that and not of the alternative.
Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class CalledFunction(Strict):
    """The function that a model called, and with what, as JSON."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call of a tool in an earlier answer."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Strict):
    """A turn. Some keys are those of an answer that is sent back; what is not text must be empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    function_call: None = None
    reasoning_content: str | None = Field(
        default=None, description="A model's earlier thoughts are not shown to it again"
    )

    @model_validator(mode="after")
    def _is_a_turn(self) -> "ChatMessage":
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls is given with the role {self.role!r}, not 'assistant'")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError(
                "tool_call_id, the call that is answered, belongs to the role 'tool', and no other"
            )
        return self

    @property
    def is_of_tools(self) -> bool:
        return self.role == "tool" or bool(self.tool_calls)

    def templated(self) -> Message:
        """The message as chat templates know it."""
        parts = self.content
        text = "".join(part.text for part in parts) if isinstance(parts, list) else parts
        # "developer" is the newer name of "system"; templates know the older one.
        message: Message = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


class Function(Strict):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool that the model may use."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """A function by its name."""

    name: str


class ChosenTool(Strict):
    """The tool that the model must use."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Strict):
    """The form that an answer must have."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """Text, any JSON object, or JSON of a given form."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("json_schema belongs to the type 'json_schema', and no other")
        return self


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[ChosenTool, Tag("tool")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "tool"),
]


class ChatCompletionRequest(SamplingRequest):
    """``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1, description="The older name of max_completion_tokens")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    safety_identifier: str | None = Field(default=None, description="For your own records; changes nothing")
    prompt_cache_key: str | None = Field(default=None, description="A hint; changes nothing")

    audio: Any = None
    function_call: Any = None
    functions: Any = None
    metadata: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    @field_validator(*REFUSED)
    @classmethod
    def _not_supported(cls, value: Any, info: ValidationInfo) -> Any:
        neutral = REFUSED[info.field_name or ""]
        if value not in neutral:
            without_effect = [repr(one) for one in neutral if one is not None]
            alternative = f" or give {' or '.join(without_effect)}" if without_effect else ""
            raise ValueError(f"no engine here has it; leave it out{alternative}")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("top_logprobs belongs to logprobs: true; give that, too")
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
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise ValueError("tool_choice is given without tools")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def extras(self) -> Iterator[tuple[str, Any]]:
        yield from super().extras()
        if self.logprobs:
            yield "logprobs", True
        if self.top_logprobs:
            yield "top_logprobs", self.top_logprobs
        if self.response_format is not None and self.response_format.type != "text":
            yield "response_format", self.response_format.model_dump(by_alias=True, exclude_none=True)
        if self.tools:
            yield "tools", [tool.model_dump(exclude_none=True) for tool in self.tools]
            choice = self.tool_choice or "auto"
            yield "tool_choice", choice if isinstance(choice, str) else choice.model_dump()
            if self.parallel_tool_calls is not None:
                yield "parallel_tool_calls", self.parallel_tool_calls
