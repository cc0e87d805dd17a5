"""What an engine's refusal of a request means to who sent it."""

import json

from worker.inference.errors import RequestRefused

#: How the engines say that a request does not fit the context.
_TOO_LONG = ("maximum context length", "max_model_len", "maximum model length")


def refused(message: str, param: str | None = None) -> RequestRefused:
    """The refusal for ``message``, with the code that says what kind it is."""
    if any(words in message for words in _TOO_LONG):
        return RequestRefused(message, code="context_length_exceeded", param=param)
    return RequestRefused(f"The engine refused the request: {message}", param=param)


def detail_of(body: bytes) -> str:
    """The sentence in an error's body: FastAPI's ``detail`` or OpenAI's ``error.message``, else all of it."""
    try:
        said = json.loads(body)
        detail = said.get("detail") or said["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.decode(errors="replace")[:1000]
    return detail if isinstance(detail, str) else json.dumps(detail)[:1000]
