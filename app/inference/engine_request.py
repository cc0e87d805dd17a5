"""What the gateway sends to an inference worker: one sample, everything that shapes it spelled out."""

from pydantic import BaseModel, ConfigDict, Field

from app.core.strict_json import JsonObject
from trainer.spec.modes import Message

#: Tokens of an answer whose request gives no limit, where the context has room for them.
DEFAULT_MAX_TOKENS = 1024


class EngineRequest(BaseModel):
    """A conversation as the chat template is to see it, or a raw prompt, and how to sample one answer.

    Exactly one of ``messages`` and ``prompt`` is given. ``extras`` are parameters that not every engine has,
    by their names in OpenAI's API; an engine that lacks one must not be sent the request. Always streamed.
    """

    model_config = ConfigDict(extra="forbid")

    folder: str
    messages: list[Message] | None = None
    prompt: str | list[int] | None = None
    prefix: str | None = None
    """What stands before a raw prompt whose own tokens are to stay as they are, and is not echoed with it."""
    chat_template_kwargs: JsonObject = Field(default_factory=dict)
    max_tokens: int | None = None
    temperature: float
    top_p: float
    seed: int
    stop: list[str]
    extras: JsonObject = Field(default_factory=dict)
