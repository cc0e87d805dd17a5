"""The answer of ``/v1/responses`` as the API's description has it; ``app.inference.responses`` makes it."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from app.core.strict_json import JsonObject
from trainer.spec.modes import Mode


class ResponseTokens(BaseModel):
    """Tokens read and written."""

    input_tokens: int = Field(description="Tokens of the conversation, including the mode's prompt")
    input_tokens_details: dict[str, int] = Field(description="For compatibility with OpenAI: zeros")
    output_tokens: int = Field(description="Tokens of the answer, including thinking")
    output_tokens_details: dict[str, int] = Field(description="For compatibility with OpenAI: zeros")
    total_tokens: int = Field(description="Both together")


class ResponseObject(BaseModel):
    """OpenAI's response, with the mode."""

    id: str = Field(description="Id of this answer, for your own records: it is not stored")
    object: Kind[Literal["response"]]
    created_at: int = Field(description="When it started, Unix time in seconds")
    completed_at: int | None = Field(description="When it ended; null in events before that")
    status: Literal["in_progress", "completed", "incomplete"] = Field(
        description="incomplete: cut off by the token limit; in_progress: only in events"
    )
    error: JsonObject | None = Field(description="Always null: a failed request returns an error")
    incomplete_details: dict[str, str] | None = Field(description="Why it is incomplete; null otherwise")
    instructions: str | None = Field(description="As they were sent")
    max_output_tokens: int | None = Field(description="As it was sent")
    max_tool_calls: int | None = Field(description="As it was sent")
    user: str | None = Field(description="As it was sent")
    metadata: dict[str, str] = Field(description="As they were sent")
    model: str = Field(description="The model's id as requested")
    output: list[JsonObject] = Field(
        description="Items: thinking if the engine separates it, the message, function calls"
    )
    parallel_tool_calls: bool = Field(description="Whether an answer may have several calls")
    temperature: float = Field(description="The temperature that was used")
    top_p: float = Field(description="The top-p that was used")
    tool_choice: str | JsonObject = Field(description="As sent; default auto")
    tools: list[JsonObject] = Field(description="As they were sent")
    top_logprobs: int = Field(description="Number of most likely tokens returned at each position")
    text: JsonObject = Field(description="The required format of the answer")
    reasoning: JsonObject = Field(description="The effort, as sent")
    truncation: Literal["disabled"] = Field(description="Always disabled: conversations are never truncated")
    previous_response_id: str | None = Field(description="Always null: answers are not stored")
    background: Literal[False] = Field(description="Always false")
    store: Literal[False] = Field(description="Always false: answers are not stored")
    service_tier: Literal["default"] = Field(description="There is one")
    usage: ResponseTokens | None = Field(description="Tokens; null in events before the last")
    mode: Mode = Field(description="The mode it was sampled in")
    checkpoint: str | None = Field(description="The checkpoint that answered; null for a base model")
