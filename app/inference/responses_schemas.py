"""The request of ``/v1/responses``: a conversation in items, which becomes a chat request."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from app.core.parameters import Metadata
from app.core.strict_json import JsonObject
from app.inference.sampling import Strict
from app.inference.schemas import ChatCompletionRequest, Effort
from trainer.graders.response_format import ResponseFormat

#: Fields of OpenAI's that ask for what is not done here, each with what to do instead.
REFUSED = {
    "previous_response_id": "answers are not stored here: send the earlier items in input",
    "conversation": "conversations are not stored here: send the earlier items in input",
    "background": "background requests are not supported: leave it out, or give false",
    "prompt": "prompts are not stored here: send instructions and input",
    "moderation": "moderation is not supported: leave it out",
    "context_management": "conversations are never truncated here: leave it out",
}
Unsupported = Annotated[object, Field(description="Not supported; leave it out")]


class _Loose(Strict):
    """Part of an answer that is sent back: what else it says changes nothing."""

    model_config = ConfigDict(extra="ignore", strict=True)


class TextItemPart(_Loose):
    """A part of a message's content, or of a tool's result."""

    type: Literal["input_text", "output_text", "text", "refusal"] = Field(
        description="input_text; output_text in an earlier answer"
    )
    text: str = Field(default="", description="What is said")


ItemContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextItemPart], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class MessageItem(_Loose):
    """A message."""

    type: Literal["message"] = Field(default="message", description="May be left out only for messages")
    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who speaks")
    content: ItemContent = Field(description="A text, or parts to be joined")


class CallItem(_Loose):
    """A function call in an earlier answer."""

    type: Literal["function_call"] = Field(description="Always function_call, from an earlier answer")
    call_id: str = Field(description="Id by which its output refers to it")
    name: str = Field(description="The function called")
    arguments: str = Field(description="Arguments of the call, a JSON object as text")


class CallOutputItem(_Loose):
    """The result of a function."""

    type: Literal["function_call_output"] = Field(
        description="Always function_call_output: the result of a function"
    )
    call_id: str = Field(description="Id of the call that this is the result of")
    output: ItemContent = Field(description="A text, or parts to be joined")


class ReasoningItem(_Loose):
    """Thinking of an earlier answer; the model is not shown it again."""

    type: Literal["reasoning"] = Field(description="Always reasoning, from an earlier answer")


_KINDS = ("message", "function_call", "function_call_output", "reasoning")


def _kind(value: object) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", "message")
    return kind if kind in _KINDS else "message"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
]


class FunctionItemTool(Strict):
    """A function that the model may call."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["function"] = Field(
        description="Always function: OpenAI's built-in tools are not available"
    )
    name: str = Field(description="The name the model calls it by")
    description: str | None = Field(default=None, description="When to call it and what for")
    parameters: dict[str, object] | None = Field(default=None, description="A JSON schema of the arguments")
    strict: bool | None = Field(default=None, description="Whether arguments must fit the schema")


class ChosenFunction(Strict):
    """The function that must be called."""

    type: Literal["function"] = Field(description="Always function: the choice is a function")
    name: str = Field(description="Name of one of the tools")


FunctionChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[ChosenFunction, Tag("function")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "function"),
]


class TextFormat(Strict):
    """The format of an answer; the fields of a JSON schema are next to ``type``."""

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="text, json_object or json_schema"
    )
    name: str | None = Field(default=None, description="With json_schema: name of the format")
    description: str | None = Field(default=None, description="With json_schema: purpose of the format")
    schema_: dict[str, object] | None = Field(
        default=None, alias="schema", description="With json_schema: the schema that the answer must fit"
    )
    strict: bool | None = Field(default=None, description="Ignored: answers always fit the schema")

    def as_chat(self) -> dict[str, object]:
        """The same as ``response_format``."""
        if self.type != "json_schema":
            return {"type": self.type}
        told = {"name": self.name, "description": self.description, "schema": self.schema_}
        return {"type": self.type, "json_schema": {**told, "strict": self.strict}}

    @model_validator(mode="after")
    def _is_a_form(self) -> "TextFormat":
        ResponseFormat.model_validate(self.as_chat())
        return self


class TextConfig(Strict):
    """Options for the text of an answer."""

    format: TextFormat | None = Field(default=None, description="The format it must have")
    verbosity: Literal["low", "medium", "high"] | None = Field(
        default=None, description="Ignored: ask for it in the prompt"
    )


class ReasoningConfig(Strict):
    """Thinking of the model."""

    model_config = ConfigDict(extra="ignore", strict=True)

    effort: Effort | None = Field(
        default=None, description="Like reasoning_effort of a chat request: passed to the chat template"
    )


class ResponseStreamOptions(Strict):
    """What a stream carries besides events."""

    include_obfuscation: bool | None = Field(default=None, description="Ignored: not supported")


class ResponseRequest(Strict):
    """``POST /v1/responses``. Sampling defaults are those of training: temperature 1, no top-p."""

    model: str = Field(
        min_length=1,
        description="Id of a model from GET /v1/models; the ending `:high-entropy` selects that mode",
    )
    mode: Literal["normal", "high-entropy"] | None = Field(
        default=None, description="The mode to answer in; default: as in the model's id"
    )
    input: str | list[Item] = Field(description="A text, or a conversation in items")
    instructions: str | None = Field(default=None, description="The system message, before all others")
    max_output_tokens: int | None = Field(default=None, ge=1, description="Maximum tokens of the answer")
    temperature: float | None = Field(default=None, ge=0, le=2, description="0: greedy; default 1")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Default 1, all tokens")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63, description="As in a chat request")
    stream: bool | None = Field(default=None, description="Stream the answer as events; default false")
    stream_options: ResponseStreamOptions | None = Field(default=None, description="Only with stream")
    text: TextConfig | None = Field(default=None, description="The format of the answer")
    tools: list[FunctionItemTool] | None = Field(default=None, description="Functions that may be called")
    tool_choice: FunctionChoice | None = Field(
        default=None, description="none, auto (the default), required, or one function"
    )
    parallel_tool_calls: bool | None = Field(default=None, description="false: at most one call")
    top_logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Number of most likely tokens to return at each position, if include has "
        "message.output_text.logprobs",
    )
    include: list[str] | None = Field(
        default=None,
        description="message.output_text.logprobs; others, such as encrypted thinking, are ignored",
    )
    reasoning: ReasoningConfig | None = Field(default=None, description="How to think")
    metadata: Metadata | None = Field(default=None, description="Returned with the answer")
    store: bool | None = Field(default=None, description="Ignored: answers are not stored here")
    truncation: Literal["auto", "disabled"] | None = Field(
        default=None, description="Ignored: conversations are never truncated; one that is too long is a 400"
    )
    max_tool_calls: int | None = Field(
        default=None, ge=1, description="Ignored: it concerns OpenAI's built-in tools"
    )
    user: str | None = Field(default=None, description="Ignored; for your own records")
    safety_identifier: str | None = Field(default=None, description="Ignored; for your own records")
    prompt_cache_key: str | None = Field(default=None, description="Accepted, but ignored here")
    prompt_cache_options: dict[str, object] | None = Field(
        default=None, description="Accepted, but ignored here"
    )
    prompt_cache_retention: Literal["in_memory", "24h"] | None = Field(
        default=None, description="Accepted, but ignored here"
    )
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = Field(
        default=None, description="Ignored: there is only one tier"
    )

    previous_response_id: Unsupported = None
    conversation: Unsupported = None
    background: Unsupported = None
    prompt: Unsupported = None
    moderation: Unsupported = None
    context_management: Unsupported = None

    @field_validator("input", mode="before")
    @classmethod
    def _is_known(cls, value: object) -> object:
        if isinstance(value, str):
            return value
        if not isinstance(value, list) or not value:
            raise ValueError("give a text, or a list of at least one item")
        for one in value:
            kind = one.get("type", "message") if isinstance(one, dict) else None
            if kind not in _KINDS:
                raise ValueError(
                    f"an item of the type {str(kind)[:80]!r}: it must be one of {', '.join(_KINDS)}"
                )
        return value

    @field_validator(*REFUSED)
    @classmethod
    def _is_not_done(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and value is not False:
            raise ValueError(REFUSED[info.field_name or ""])
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> "ResponseRequest":
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise ValueError("tool_choice is given without tools")
        return self

    @property
    def tells_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ()) or bool(self.top_logprobs)

    def as_chat(self) -> ChatCompletionRequest:
        """The chat request that asks for the same."""
        chosen = self.tool_choice
        body: JsonObject = {
            "model": self.model,
            "mode": self.mode,
            "messages": list(self._messages()),
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "tools": [_tool(tool) for tool in self.tools or ()],
            "tool_choice": _choice(chosen) if isinstance(chosen, ChosenFunction) else chosen,
            "parallel_tool_calls": self.parallel_tool_calls,
            "reasoning_effort": None if self.reasoning is None else self.reasoning.effort,
        }
        if self.tells_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        if self.text is not None and self.text.format is not None:
            body["response_format"] = self.text.format.as_chat()
        return ChatCompletionRequest.model_validate(body)

    def _messages(self) -> list[JsonObject]:
        messages: list[JsonObject] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        items = [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        for item in items:
            if isinstance(item, MessageItem):
                messages.append({"role": item.role, "content": _text(item.content)})
            elif isinstance(item, CallItem):
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                messages[-1].setdefault("tool_calls", []).append(call)
            elif isinstance(item, CallOutputItem):
                told = {"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)}
                messages.append(told)
        return messages


def _text(content: str | list[TextItemPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _tool(tool: FunctionItemTool) -> JsonObject:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _choice(chosen: ChosenFunction) -> JsonObject:
    return {"type": "function", "function": {"name": chosen.name}}
