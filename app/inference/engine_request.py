"""What the gateway sends to an inference worker: one sample, everything that shapes it spelled out."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EngineRequest(BaseModel):
    """A conversation as the chat template is to see it, and how to sample one answer. Always streamed."""

    model_config = ConfigDict(extra="forbid")

    folder: str
    messages: list[dict[str, Any]]
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: list[str]
