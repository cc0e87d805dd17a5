"""The two modes of one set of weights, and how a message list is put into a mode.

Normal mode is the conversation exactly as the user sent it, through the model's own chat template.
High-entropy mode is the same conversation with one more system message (Policy Split, section 3.1).
The trainer and the inference gateway both call :func:`messages_for_mode`, so a served request and a
training row have the same prompt.
"""

from enum import StrEnum
from typing import Any

Message = dict[str, Any]


class Mode(StrEnum):
    """A behaviour of the policy. ``label`` is the short name used in metric names."""

    NORMAL = "normal"
    HIGH_ENTROPY = "high-entropy"

    @property
    def label(self) -> str:
        return "N" if self is Mode.NORMAL else "H"


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


def messages_for_mode(messages: list[Message], mode: Mode, high_entropy_prompt: str) -> list[Message]:
    """The messages that the chat template sees in ``mode``.

    Normal mode returns the messages unchanged. High-entropy mode adds ``high_entropy_prompt`` as a system
    message in front; if the conversation already opens with a system message, the prompt is appended to it
    after a blank line, because most chat templates allow one system turn only. An empty prompt changes
    nothing in either mode.
    """
    if mode is Mode.NORMAL or not high_entropy_prompt:
        return list(messages)
    if messages and messages[0].get("role") == "system":
        first = dict(messages[0])
        first["content"] = f"{_text_of(first.get('content'))}\n\n{high_entropy_prompt}"
        return [first, *messages[1:]]
    return [{"role": "system", "content": high_entropy_prompt}, *messages]


def _text_of(content: Any) -> str:
    """Message content as text: a string, or OpenAI's list of text parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return content or ""
