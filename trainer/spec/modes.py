"""The two modes of one set of weights, and how a message list is put into a mode.

Normal mode is the conversation exactly as the user sent it, through the model's own chat template.
High-entropy mode is the same conversation with one more system message (Policy Split, section 3.1), or, for
models without a system role, with the same text in front of the first user message.
The trainer and the inference gateway both call :func:`messages_for_mode`, so a served request and a
training row have the same prompt.
"""

from enum import StrEnum
from typing import Any, Literal, cast

Message = dict[str, Any]

Placement = Literal["system", "user_prefix"]
"""Where the high-entropy prompt stands: in the system turn, or in front of the first user message."""


class Mode(StrEnum):
    """A behaviour of the policy. ``label`` is the short name used in metric names."""

    NORMAL = "normal"
    HIGH_ENTROPY = "high-entropy"

    @property
    def label(self) -> Literal["N", "H"]:
        return "N" if self is Mode.NORMAL else "H"

    @property
    def other(self) -> "Mode":
        """The mode that this one is not."""
        return Mode.HIGH_ENTROPY if self is Mode.NORMAL else Mode.NORMAL


DEFAULT_HIGH_ENTROPY_PROMPT = (
    "Before you answer, explore a line of thought that few others would take. Do not settle for the most "
    "direct path: come at the question from other angles and let your thinking range as widely and as "
    "diversely as it can. However unusual the way there, keep the final answer precise and factually sound."
)

NEUTRAL_PROMPT = (
    "In the conversation that follows, a user writes a message and you write a reply. Read the message "
    "first, from its beginning to its end, and then write your reply. Messages and replies are both in plain "
    "text. When your reply is complete, end it there and wait until another message has been received."
)
"""As long as the default prompt (54 words, 299 characters, 62 tokens of SmolLM2's tokenizer both) and asking
for nothing unusual: the control that tells what the prompt says from a longer context."""


def messages_for_mode(
    messages: list[Message], mode: Mode, high_entropy_prompt: str, placement: Placement = "system"
) -> list[Message]:
    """The messages that the chat template sees in ``mode``.

    Normal mode returns the messages unchanged. High-entropy mode adds ``high_entropy_prompt``: as a system
    message in front, or at the end of the conversation's own opening system message after a blank line,
    because most chat templates allow one system turn only; with ``placement`` "user_prefix" in front of the
    first user message and a blank line, for templates that have no system role. An empty prompt changes
    nothing in either mode.
    """
    if mode is Mode.NORMAL or not high_entropy_prompt:
        return list(messages)
    if placement == "user_prefix":
        return _with_user_prefix(messages, high_entropy_prompt)
    if messages and messages[0].get("role") == "system":
        first = dict(messages[0])
        first["content"] = f"{_text_of(first.get('content'))}\n\n{high_entropy_prompt}"
        return [first, *messages[1:]]
    return [{"role": "system", "content": high_entropy_prompt}, *messages]


def _with_user_prefix(messages: list[Message], prompt: str) -> list[Message]:
    for index, message in enumerate(messages):
        if message.get("role") == "user":
            changed = {**message, "content": f"{prompt}\n\n{_text_of(message.get('content'))}"}
            return [*messages[:index], changed, *messages[index + 1 :]]
    return [*messages, {"role": "user", "content": prompt}]


def _text_of(content: Any) -> str:
    """Message content as text: a string, or OpenAI's list of text parts."""
    if isinstance(content, list):
        parts = cast("list[dict[str, str]]", content)
        return "".join(part.get("text", "") for part in parts if part.get("type") == "text")
    return content or ""
