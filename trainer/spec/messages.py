"""Messages of a conversation: what one may contain, and the one format in which chat templates see it.

Rows of training files, the trainer and the inference gateway all read messages here, so that a served request
and a training row have the same prompt: texts are joined, ``developer`` becomes ``system`` where the template
does not know it, tool calls have their arguments as objects, and nulls are left out. Torch-free.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeGuard, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.spec.modes import Message

Role = Literal["system", "developer", "user", "assistant", "tool"]
_SHOWN = 80


class _Strict(BaseModel):
    """Unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A part of a message's content. Models here read text only."""

    type: Literal["text"] = Field(description="Always text")
    text: str = Field(description="The text; parts are joined without a separator")

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if not isinstance(value, dict | TextPart):
            raise ValueError(f"a part is {_abbreviated(value)}, but must be an object with 'type' and 'text'")
        kind = cast(dict[str, object], value).get("type") if isinstance(value, dict) else None
        if kind in ("input_text", "output_text"):
            raise ValueError(f"a part of the type {kind!r}, as in the Responses API: write 'text'")
        if isinstance(kind, str) and kind != "text":
            raise ValueError(
                f"a part of the type {kind[:_SHOWN]!r}, but models here read text only: leave it out"
            )
        return cast(object, value)


# Told apart by what is given, so that an error is about that and not about the alternative.
Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class CalledFunction(_Strict):
    """The function that a model called, with its arguments: a JSON object, or one as text."""

    name: str = Field(description="Name of the tool called")
    arguments: str | dict[str, object] = Field(
        description="Arguments of the call: a JSON object, or one as text"
    )

    @field_validator("arguments")
    @classmethod
    def _is_an_object(cls, value: str | dict[str, object]) -> str | dict[str, object]:
        try:
            told = value if isinstance(value, dict) else json.loads(value or "{}")
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ValueError(f"arguments is {_abbreviated(value)}, but must be a JSON object as text")
        return value


class ToolCall(_Strict):
    """A tool call in an earlier answer."""

    id: str = Field(description="Id of the call, given as tool_call_id in its result")
    type: Literal["function"] = Field(default="function", description="Always function")
    function: CalledFunction = Field(description="What was called")

    def templated(self) -> dict[str, object]:
        """The call as chat templates know it."""
        given = self.function.arguments
        arguments = given if isinstance(given, dict) else json.loads(given or "{}")
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(_Strict):
    """A turn. Some keys exist so that answers can be sent back; anything but text must be empty."""

    role: Role = Field(
        description="Who speaks; developer becomes system if the model's chat template does not know it"
    )
    content: Content | None = Field(
        default=None, description="A text, or a list of parts to be joined; null only with tool_calls"
    )
    name: str | None = Field(default=None, description="Name of the speaker; few chat templates show it")
    tool_calls: list[ToolCall] | None = Field(
        default=None, description="Calls in an earlier answer; only with the role assistant"
    )
    tool_call_id: str | None = Field(
        default=None,
        description="Id of the call that this message is the result of; required with the role tool, "
        "and only there",
    )
    refusal: str | None = Field(default=None, description="For sending back an answer: null")
    annotations: list[object] | None = Field(
        default=None, max_length=0, description="For sending back an answer: null or empty"
    )
    audio: dict[str, object] | None = Field(default=None, description="For sending back an answer: null")
    function_call: dict[str, object] | None = Field(
        default=None, description="For sending back an answer: null"
    )
    reasoning_content: str | None = Field(
        default=None, description="Earlier thinking is not shown to the model again"
    )

    @field_validator("role", mode="before")
    @classmethod
    def _is_not_the_older_name(cls, value: object) -> object:
        if value == "function":
            raise ValueError(
                "'function' is the older name of the role 'tool': give that, and its tool_call_id"
            )
        return value

    @field_validator("refusal", "audio")
    @classmethod
    def _is_null(cls, value: object) -> object:
        if value is not None:
            raise ValueError("models here read only a message's text: leave it out, or give null")
        return value

    @field_validator("function_call", mode="before")
    @classmethod
    def _is_not_the_older_call(cls, value: object) -> object:
        if value is not None:
            raise ValueError("function_call is the older form of tool_calls: give a list of them")
        return value

    @model_validator(mode="after")
    def _is_a_turn(self) -> "ChatMessage":
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls is given with the role {self.role!r}, not 'assistant'")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id is only allowed with the role 'tool', which requires it")
        return self

    def templated(self, *, knows_developer: bool = False) -> Message:
        """The message as chat templates know it: ``content`` is always a text."""
        parts = self.content
        text = "".join(part.text for part in parts) if isinstance(parts, list) else parts or ""
        role = "system" if self.role == "developer" and not knows_developer else self.role
        message: Message = {"role": role, "content": text}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.templated() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


class Function(_Strict):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The name the model calls it by; letters, digits, _ and -, up to 64",
    )
    description: str | None = Field(
        default=None, description="When to call it and what for; shown to the model"
    )
    parameters: dict[str, object] | None = Field(
        default=None, description="A JSON schema of the arguments; default: none"
    )
    strict: bool | None = Field(
        default=None,
        description="Whether arguments must fit the schema, if the model's engine supports that",
    )


class Tool(_Strict):
    """A tool that the model may use."""

    type: Literal["function"] = Field(description="Always function")
    function: Function = Field(description="What can be called")

    def templated(self) -> dict[str, object]:
        """The tool as chat templates know it: every key that one may read without asking is there."""
        function: dict[str, object] = {
            "name": self.function.name,
            "description": self.function.description or "",
            "parameters": self.function.parameters or {"type": "object", "properties": {}},
        }
        if self.function.strict is not None:
            function["strict"] = self.function.strict
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Conversation:
    """What the model should answer: messages, and the tools it may use."""

    messages: list[ChatMessage]
    tools: list[Tool]

    def templated(self, *, knows_developer: bool = False) -> list[Message]:
        """The messages as chat templates know them."""
        return [message.templated(knows_developer=knows_developer) for message in self.messages]

    def templated_tools(self) -> list[dict[str, object]] | None:
        """The tools as chat templates know them; None where there are none."""
        return [tool.templated() for tool in self.tools] or None


class BadMessages(ValueError):
    """A row's messages or tools cannot be used: a sentence that begins with the field."""


@lru_cache
def _list_of(kind: type[ChatMessage]) -> TypeAdapter[list[ChatMessage]]:
    return TypeAdapter(list[kind])  # pyright: ignore[reportInvalidTypeForm]


_TOOLS = TypeAdapter(list[Tool])


def conversation(row: Mapping[str, object], kind: type[ChatMessage] = ChatMessage) -> Conversation:
    """The conversation of a row of data, ``messages`` and perhaps ``tools``. Raises BadMessages.

    ``kind``: what its messages are; another one describes them in more detail.
    """
    messages = row.get("messages")
    if "messages" not in row:
        raise BadMessages(f"'messages' is missing; the keys are: {', '.join(row)[:_SHOWN] or 'none'}")
    if not _is_list(messages) or not messages:
        raise BadMessages(
            f"'messages' is {_abbreviated(messages)}; it must be a list of at least one message"
        )
    for index, message in enumerate(messages):
        _check_shape(f"'messages.{index}'", message)
    tools = row.get("tools")
    try:
        told = _list_of(kind).validate_python(messages)
    except ValidationError as error:
        raise BadMessages(_sentence(error, "messages", messages)) from None
    try:
        return Conversation(told, [] if tools is None else _TOOLS.validate_python(tools))
    except ValidationError as error:
        raise BadMessages(_sentence(error, "tools", tools)) from None


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_inside(value: object, step: object) -> bool:
    of_object = isinstance(value, dict) and step in value
    return of_object or (isinstance(value, list) and isinstance(step, int))


def _check_shape(where: str, message: object) -> None:
    form = "a message is an object with 'role' and 'content'"
    if not isinstance(message, dict):
        raise BadMessages(f"{where} is {_abbreviated(message)}; {form}")
    told = cast(dict[str, object], message)
    if "role" not in told:
        raise BadMessages(f"{where} has no 'role'; {form}")
    if told.get("content") is None and not told.get("tool_calls"):
        raise BadMessages(f"{where} has no 'content'; {form}, or with 'tool_calls'")


def _sentence(error: ValidationError, name: str, value: object) -> str:
    """The first thing that is wrong: the dotted field, what it is, and what it must be."""
    problem: Mapping[str, object] = error.errors(include_url=False)[0]
    path, missing, context = [name], problem["type"] == "missing", problem.get("ctx", {})
    for step in problem["loc"][:-1] if missing else problem["loc"]:
        # The names of a union's alternatives are not keys of the data.
        if not _is_inside(value, step):
            continue
        value = cast(dict[object, object], value)[step]
        path.append(str(step)[:_SHOWN])
    where = f"'{'.'.join(path)}'"
    kind = problem["type"]
    if missing:
        return f"{where} has no '{problem['loc'][-1]}'"
    if kind == "extra_forbidden":
        return f"{where} is unknown; leave it out"
    if kind == "value_error":
        return f"{where}: {context['error']}"
    if kind == "string_type":
        return f"{where} is {_abbreviated(value)}; it must be a string"
    if kind == "literal_error":
        accepted = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{where} is {_abbreviated(value)}; it must be one of: {accepted}"
    return f"{where} is {_abbreviated(value)}; {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _abbreviated(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


#: A conversation that any template takes. A checkpoint has its token ids, an engine has to find the same.
PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "  And 3 + 3?\n"},
)


def for_template(messages: Sequence[Message], *, knows_developer: bool) -> list[Message]:
    """Messages in template form, with ``developer`` as the template knows it."""
    if knows_developer:
        return list(messages)
    return [{**one, "role": "system"} if one.get("role") == "developer" else one for one in messages]
