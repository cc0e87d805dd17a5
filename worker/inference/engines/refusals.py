"""What an engine's refusal of a request means to who sent it."""

import json

from worker.inference.errors import RequestRefused

#: How the engines say that a request does not fit the context.
_TOO_LONG = ("maximum context length", "max_model_len", "maximum model length")


def refused(body: bytes) -> RequestRefused:
    """The refusal that an error's body tells of, with the code that says what kind it is."""
    message, param = detail_of(body), _param(body)
    if any(words in message for words in _TOO_LONG):
        return RequestRefused(message, code="context_length_exceeded", param=param)
    return RequestRefused(f"The engine refused the request: {message}", param=param)


def detail_of(body: bytes) -> str:
    """The sentence in an error's body: FastAPI's ``detail`` or OpenAI's ``error.message``, else all of it."""
    try:
        said = json.loads(body)
        detail = said.get("detail") or said["error"]
        if isinstance(detail, dict):
            detail = detail["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.decode(errors="replace")[:1000]
    return detail if isinstance(detail, str) else json.dumps(detail)[:1000]


def _param(body: bytes) -> str | None:
    """The request's field that is at fault, where the body names it."""
    try:
        said = json.loads(body)
        param = (said.get("detail") or said["error"])["param"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return param if isinstance(param, str) else None
