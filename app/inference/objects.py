"""Answers as the API's description has them; ``app.inference.answers`` and ``dialects`` make them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from trainer.spec.modes import Mode


class AnswerMessage(BaseModel):
    """The model's turn. ``content`` is null if it only calls tools."""

    role: Literal["assistant"] = Field(description="Always assistant")
    content: str | None = Field(description="The text of the answer; null if it only calls tools")
    refusal: str | None = Field(description="Always null: refusals are not marked")
    reasoning_content: str | None = Field(
        default=None, description="The model's thinking, if the engine separates it from the answer"
    )
    tool_calls: list[dict[str, object]] | None = Field(
        default=None, description="Tool calls in OpenAI's format, with arguments as JSON text"
    )


class Graded(BaseModel):
    """With ``best_of_n``: the answer's reward, or why it has none; with ``distinct``, how many were equal."""

    reward: float | None = Field(
        default=None, description="From 0 to 1; null if the grader failed on this answer"
    )
    grader_error: str | None = Field(default=None, description="Why there is no reward; null if there is one")
    count: int | None = Field(
        default=None, description="With best_of_n.distinct: how many of the n answers equal this one"
    )


class ChatChoice(Graded):
    """One answer. ``mode``: the one it was sampled in."""

    index: int = Field(description="Position of the answer in the list, from 0")
    message: AnswerMessage = Field(description="The model's message, with its thinking and tool calls")
    logprobs: dict[str, object] | None = Field(
        description="Log-probabilities by token, in nats, in OpenAI's format; null unless requested"
    )
    finish_reason: str = Field(
        description="stop: it ended on its own or at a stop text; length: it hit the token limit; "
        "tool_calls: it calls a tool"
    )
    mode: Mode = Field(description="The mode it was sampled in")


class TextChoice(Graded):
    """One continuation, with the mode it was sampled in."""

    index: int = Field(description="Position of the continuation in the list, from 0")
    text: str = Field(description="The continuation, preceded by the prompt if echo is set")
    logprobs: dict[str, object] | None = Field(
        description="Log-probabilities by token, in nats, in OpenAI's format; null unless requested"
    )
    finish_reason: str = Field(
        description="stop: it ended on its own or at a stop text; length: it hit the token limit"
    )
    mode: Mode = Field(description="The mode it was sampled in")


class TokenUsage(BaseModel):
    """Tokens; each prompt counts once, however many answers it has."""

    prompt_tokens: int = Field(description="Tokens of the prompts, including the mode's prompt")
    completion_tokens: int = Field(description="Tokens of all answers together")
    total_tokens: int = Field(description="Both together")


class Answer(BaseModel):
    """Fields of an answer common to both endpoints."""

    id: str = Field(description="Id of this answer, for your own records: it is not stored")
    created: int = Field(description="When it was answered, Unix time in seconds")
    model: str = Field(description="The model's id as requested")
    mode: Literal["normal", "high-entropy", "mixed"] = Field(
        description="The mode requested; mixed: choices alternate between both"
    )
    checkpoint: str | None = Field(description="The checkpoint that answered; null for a base model")
    system_fingerprint: str | None = Field(
        description="First characters of the checkpoint's hash, which change with the weights; null for a "
        "base model"
    )
    usage: TokenUsage = Field(description="Tokens read and written")


class ChatCompletionObject(Answer):
    """OpenAI's chat completion, with modes."""

    object: Kind[Literal["chat.completion"]]
    choices: list[ChatChoice] = Field(description="The answers: n, or the best of them")


class CompletionObject(Answer):
    """OpenAI's completion, with modes."""

    object: Kind[Literal["text_completion"]]
    choices: list[TextChoice] = Field(description="The continuations, n for each prompt, in order")
