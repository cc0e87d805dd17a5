"""Answers as the API's description has them; ``app.inference.answers`` and ``dialects`` make them."""

from typing import Literal

from pydantic import BaseModel, Field

from trainer.spec.modes import Mode


class AnswerMessage(BaseModel):
    """The model's turn. ``content`` is null where it only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, object]] | None = None


class Graded(BaseModel):
    """With ``best_of_n``: the answer's reward, or why it has none; if ``distinct``, how many were equal."""

    reward: float | None = None
    grader_error: str | None = None
    count: int | None = None


class ChatChoice(Graded):
    """One answer. ``mode``: the one it was sampled in."""

    index: int
    message: AnswerMessage
    logprobs: dict[str, object] | None
    finish_reason: str
    mode: Mode


class TextChoice(Graded):
    """One continuation; likewise."""

    index: int
    text: str
    logprobs: dict[str, object] | None
    finish_reason: str
    mode: Mode


class TokenUsage(BaseModel):
    """Tokens; each prompt counts once, however many answers it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(BaseModel):
    """What both endpoints say of an answer."""

    id: str
    created: int
    model: str
    mode: Literal["normal", "high-entropy", "mixed"]
    checkpoint: str | None = Field(description="Whose weights answered; null for a base model")
    system_fingerprint: str | None
    usage: TokenUsage


class ChatCompletionObject(Answer):
    """OpenAI's chat completion, with modes."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class CompletionObject(Answer):
    """OpenAI's completion, with modes."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
