"""Rows of training files, by the method that learns from them: what a row must contain, and what it means.

Uploads and the trainer both read rows here, so that what is accepted can be trained on. Torch-free.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from trainer.spec.messages import BadMessages, ChatMessage, Conversation, conversation
from trainer.spec.modes import Message

Method = Literal["reinforcement", "supervised", "dpo"]
#: Whose message the model can be asked to answer.
ANSWERED = ("user", "tool")


class TaughtMessage(ChatMessage):
    """A turn of a conversation that is learnt."""

    weight: Annotated[int, Field(ge=0, le=1)] | None = Field(
        default=None, description="Only with the role assistant: 0 for a turn that is not learnt; default 1"
    )

    @model_validator(mode="after")
    def _is_weighed_alone(self) -> "TaughtMessage":
        if self.weight is not None and self.role != "assistant":
            raise ValueError(f"weight is given with the role {self.role!r}, not 'assistant'")
        return self


@dataclass(frozen=True)
class Lesson:
    """A conversation whose assistant is learnt from, as chat templates know it."""

    messages: list[Message]
    tools: list[dict[str, object]] | None
    learnt: tuple[bool, ...]
    """Of each message, whether it is learnt."""


def read_question(row: Mapping[str, object]) -> Conversation:
    """The question of a reinforcement row. Raises BadMessages."""
    told = conversation(row)
    if told.messages[-1].role not in ANSWERED:
        raise BadMessages(
            f"'messages' ends with a message of role '{told.messages[-1].role}'; the last one must be the "
            "user's or a tool's, because the model is trained on its own answers to it"
        )
    return told


def read_lesson(row: Mapping[str, object]) -> Lesson:
    """What a supervised row teaches. Raises BadMessages."""
    told = conversation(row, TaughtMessage)
    _check_beside(row, "")
    if told.messages[-1].role != "assistant":
        raise BadMessages(
            f"'messages' ends with a message of role '{told.messages[-1].role}'; the last one must be the "
            "assistant's, because the model is trained to say what it says"
        )
    learnt = tuple(one.role == "assistant" and cast(TaughtMessage, one).weight != 0 for one in told.messages)
    if not any(learnt):
        raise BadMessages(
            "'messages' has no message to learn: each of the assistant's has the weight 0; give one of them "
            "the weight 1"
        )
    if told.messages[0].role == "assistant":
        raise BadMessages("'messages' begins with the assistant's; put the message that it answers before it")
    return Lesson(told.templated(knows_developer=True), told.templated_tools(), learnt)


@dataclass(frozen=True)
class Preference:
    """Two answers to a conversation, the better one first, as chat templates know them."""

    messages: list[Message]
    tools: list[dict[str, object]] | None
    preferred: Message
    other: Message


def read_preference(row: Mapping[str, object]) -> Preference:
    """What a dpo row prefers. Raises BadMessages."""
    for name in ("input", *_OUTPUTS):
        if name not in row:
            raise BadMessages(f"'{name}' is missing; the keys are: {', '.join(row)[:80] or 'none'}")
    given = row["input"]
    if not isinstance(given, dict):
        raise BadMessages("'input' must be an object with 'messages'")
    asked = cast(dict[str, object], given)
    _check_beside(asked, "input.")
    try:
        question = read_question(asked)
    except BadMessages as error:
        raise BadMessages(_below("input.", str(error))) from None
    preferred, other = (_output(row[name], name) for name in _OUTPUTS)
    if preferred == other:
        raise BadMessages("'preferred_output' and 'non_preferred_output' are the same: nothing is preferred")
    return Preference(question.templated(knows_developer=True), question.templated_tools(), preferred, other)


_OUTPUTS = ("preferred_output", "non_preferred_output")


def _output(value: object, name: str) -> Message:
    """The one message of the assistant."""
    messages = cast(list[object], value) if isinstance(value, list) else []
    if len(messages) != 1:
        raise BadMessages(f"'{name}' must be a list of one message, the assistant's")
    try:
        (message,) = conversation({"messages": messages}).messages
    except BadMessages as error:
        raise BadMessages(str(error).replace("'messages", f"'{name}")) from None
    if message.role != "assistant":
        raise BadMessages(f"'{name}.0.role' is '{message.role}'; it must be 'assistant'")
    return message.templated(knows_developer=True)


def _below(prefix: str, text: str) -> str:
    for name in ("messages", "tools"):
        text = text.replace(f"'{name}", f"'{prefix}{name}")
    return text


def _check_beside(row: Mapping[str, object], prefix: str) -> None:
    """Raise BadMessages for keys beside messages that would change their meaning."""
    for name, instead in (("functions", "tools"), ("function_call", "tools")):
        if row.get(name) is not None:
            raise BadMessages(f"'{prefix}{name}' is in an older format: give '{prefix}{instead}'")
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise BadMessages(
            f"'{prefix}parallel_tool_calls' is {str(parallel)[:80]!r}; it must be true or false"
        )


def likely_method(row: Mapping[str, object]) -> Method:
    """The method that the row seems to be for."""
    if "messages" not in row and any(name in row for name in ("input", *_OUTPUTS)):
        return "dpo"
    messages = row.get("messages")
    last = cast("list[object]", messages)[-1] if isinstance(messages, list) and messages else None
    says = isinstance(last, dict) and cast("dict[str, object]", last).get("role") == "assistant"
    return "supervised" if says else "reinforcement"


#: What reads a row, and raises BadMessages for one that the method cannot learn from.
READERS: Mapping[Method, Callable[[Mapping[str, object]], object]] = {
    "reinforcement": read_question,
    "supervised": read_lesson,
    "dpo": read_preference,
}
