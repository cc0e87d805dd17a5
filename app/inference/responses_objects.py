"""The answer of ``/v1/responses`` as the API's description has it; ``app.inference.responses`` makes it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from trainer.spec.modes import Mode


class ResponseTokens(BaseModel):
    """Tokens read and written."""

    input_tokens: int = Field(description="Of the conversation, with the mode's prompt in it")
    input_tokens_details: dict[str, int] = Field(description="As OpenAI has it: zeros")
    output_tokens: int = Field(description="Written in the answer, thoughts with it")
    output_tokens_details: dict[str, int] = Field(description="As OpenAI has it: zeros")
    total_tokens: int = Field(description="Both together")


class ResponseObject(BaseModel):
    """OpenAI's response, with the mode."""

    id: str = Field(description="Id of this answer, for your own records: it is not kept")
    object: Kind[Literal["response"]]
    created_at: int = Field(description="When it began, Unix time in seconds")
    completed_at: int | None = Field(description="When it ended; null in events before that")
    status: Literal["in_progress", "completed", "incomplete"] = Field(
        description="incomplete: the token limit cut it off; in_progress in events alone"
    )
    error: dict[str, Any] | None = Field(description="null: an answer that fails is an error")
    incomplete_details: dict[str, str] | None = Field(description="Why it is incomplete; else null")
    instructions: str | None = Field(description="As they were sent")
    max_output_tokens: int | None = Field(description="As it was sent")
    max_tool_calls: int | None = Field(description="As it was sent")
    user: str | None = Field(description="As it was sent")
    metadata: dict[str, str] = Field(description="As they were sent")
    model: str = Field(description="The model's id as it was asked for")
    output: list[dict[str, Any]] = Field(
        description="Items: thoughts where the engine tells them apart, the message, calls of functions"
    )
    parallel_tool_calls: bool = Field(description="Whether an answer may have several calls")
    temperature: float = Field(description="What was sampled with")
    top_p: float = Field(description="What was sampled with")
    tool_choice: str | dict[str, Any] = Field(description="As it was sent; default auto")
    tools: list[dict[str, Any]] = Field(description="As they were sent")
    top_logprobs: int = Field(description="How many of the likeliest tokens are told at each position")
    text: dict[str, Any] = Field(description="The form that the answer had to have")
    reasoning: dict[str, Any] = Field(description="The effort, as it was sent")
    truncation: Literal["disabled"] = Field(description="Nothing is left out of a conversation")
    previous_response_id: str | None = Field(description="Always null: answers are not kept")
    background: Literal[False] = Field(description="Always false")
    store: Literal[False] = Field(description="Always false: answers are not kept")
    service_tier: Literal["default"] = Field(description="There is one")
    usage: ResponseTokens | None = Field(description="Tokens; null in events before the last")
    mode: Mode = Field(description="The mode that it was sampled in")
    checkpoint: str | None = Field(description="Whose weights answered; null for a base model")
