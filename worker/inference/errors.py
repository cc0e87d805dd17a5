"""Why an inference worker does not answer a request, in OpenAI's shape."""


class InferenceError(Exception):
    """Base of the tree; ``status`` is the HTTP status, ``retry_after`` seconds after which to try again."""

    status = 500
    type = "server_error"
    code = "engine_error"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str | None = None,
        param: str | None = None,
    ):
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code or self.code
        self.param = param

    def body(self) -> dict[str, object]:
        """The error as JSON."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}


class EngineUnavailable(InferenceError):
    """No engine can take the request now: it is starting, crashed, or there is no room for it."""

    status = 503
    code = "engine_unavailable"


class EngineFailed(InferenceError):
    """The engine took the request and failed on it."""


class RendersDifferently(InferenceError):
    """The engine makes another prompt of a conversation than training did: its answers would be another's."""

    status = 503
    code = "prompt_mismatch"


class RequestRefused(InferenceError):
    """The engine, or the model's chat template, does not accept the request."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
