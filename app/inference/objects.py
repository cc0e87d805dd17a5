"""Answers as the API's description has them; ``app.inference.answers`` and ``dialects`` make them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from trainer.spec.modes import Mode


class AnswerMessage(BaseModel):
    """The model's turn. ``content`` is null where it only calls tools."""

    role: Literal["assistant"] = Field(description="Always assistant")
    content: str | None = Field(description="The text of the answer; null where it only calls tools")
    refusal: str | None = Field(description="Always null: no model here marks refusals")
    reasoning_content: str | None = Field(
        default=None, description="The model's thoughts, where the engine tells them apart from the answer"
    )
    tool_calls: list[dict[str, object]] | None = Field(
        default=None, description="Calls of tools, in OpenAI's form, with arguments as JSON text"
    )


class Graded(BaseModel):
    """With ``best_of_n``: the answer's reward, or why it has none; if ``distinct``, how many were equal."""

    reward: float | None = Field(
        default=None, description="From 0 to 1; null when the grader failed on this answer"
    )
    grader_error: str | None = Field(
        default=None, description="Why there is no reward; null when there is one"
    )
    count: int | None = Field(
        default=None, description="With best_of_n.distinct: how many of the n answers were equal to this one"
    )


class ChatChoice(Graded):
    """One answer. ``mode``: the one it was sampled in."""

    index: int = Field(description="Place of the answer in the list, from 0")
    message: AnswerMessage = Field(description="What the model said, with its thoughts and calls")
    logprobs: dict[str, object] | None = Field(
        description="Log-probabilities by token, in nats, in OpenAI's form; null unless asked for"
    )
    finish_reason: str = Field(
        description="stop: it ended by itself or at a stop text; length: the token limit; tool_calls: it "
        "calls a tool"
    )
    mode: Mode = Field(description="The mode that it was sampled in")


class TextChoice(Graded):
    """One continuation; likewise."""

    index: int = Field(description="Place of the continuation in the list, from 0")
    text: str = Field(description="The continuation, after the prompt with echo")
    logprobs: dict[str, object] | None = Field(
        description="Log-probabilities by token, in nats, in OpenAI's form; null unless asked for"
    )
    finish_reason: str = Field(
        description="stop: it ended by itself or at a stop text; length: the token limit"
    )
    mode: Mode = Field(description="The mode that it was sampled in")


class TokenUsage(BaseModel):
    """Tokens; each prompt counts once, however many answers it has."""

    prompt_tokens: int = Field(description="Tokens of the prompts, with the mode's prompt in them")
    completion_tokens: int = Field(description="Tokens of all answers together")
    total_tokens: int = Field(description="Both together")


class Answer(BaseModel):
    """What both endpoints say of an answer."""

    id: str = Field(description="Id of this answer, for your own records: it is not kept")
    created: int = Field(description="When it was answered, Unix time in seconds")
    model: str = Field(description="The model's id as it was asked for")
    mode: Literal["normal", "high-entropy", "mixed"] = Field(
        description="The mode that was asked for; mixed: the choices in turn from both"
    )
    checkpoint: str | None = Field(description="Whose weights answered; null for a base model")
    system_fingerprint: str | None = Field(
        description="Changes when the weights do: the beginning of the checkpoint's hash; null for a base "
        "model"
    )
    usage: TokenUsage = Field(description="Tokens read and written")


class ChatCompletionObject(Answer):
    """OpenAI's chat completion, with modes."""

    object: Kind[Literal["chat.completion"]]
    choices: list[ChatChoice] = Field(description="The answers, n of them or the best of these")


class CompletionObject(Answer):
    """OpenAI's completion, with modes."""

    object: Kind[Literal["text_completion"]]
    choices: list[TextChoice] = Field(description="The continuations, prompt by prompt, n of each")
