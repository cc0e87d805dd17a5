"""The errors that clients see, as one tree, in OpenAI's shape.

``{"error": {"message", "type", "param", "code"}}``. Raise one of these anywhere below an endpoint;
``app.core.error_handlers`` turns it into the response.
"""

from typing import ClassVar

from pydantic import BaseModel, Field


class ApiError(Exception):
    """Base of all errors with a response of their own."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.headers = headers or {}

    def body(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(ApiError):
    """400: the request says something that cannot be done. ``param`` is the dotted field."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class Unauthorized(ApiError):
    """401: no key, or one that is not known."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class AccessEnded(Unauthorized):
    """401, or the end of a stream: what let a request in went while it was answered."""


class KeyRevoked(AccessEnded):
    """The key was revoked."""

    def __init__(self) -> None:
        super().__init__("The key was revoked.")


class SignedOut(AccessEnded):
    """The browser's sign-in is over."""

    def __init__(self) -> None:
        super().__init__("This browser is not signed in any more.")


class Forbidden(ApiError):
    """403: the key may not do this."""

    status = 403
    type = "invalid_request_error"
    default_code = "permission_denied"


class NotFound(ApiError):
    """404: there is no such resource in the caller's project."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(ApiError):
    """405."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class Conflict(ApiError):
    """409: the resource's state forbids it."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None):
        # The SDK would send the request again, and get the same answer, three times over.
        super().__init__(message, param=param, code=code, headers={"x-should-retry": "false"})


class TooLarge(ApiError):
    """413: the body is over a limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class TooManyRequests(ApiError):
    """429: try again after ``retry-after`` seconds."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class Unavailable(ApiError):
    """503: something this needs does not answer now; ``retry_after`` seconds from now it may."""

    status = 503
    type = "server_error"
    default_code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 2, code: str | None = None):
        super().__init__(message, code=code, headers={"retry-after": str(retry_after)})


class InternalError(ApiError):
    """500: our fault. Says nothing but the request's id; the trace is in the log."""

    def __init__(self, request_id: str):
        super().__init__(
            "The server had an error while processing the request. Give its operator the request id "
            f"{request_id}.",
            code="internal_error",
        )


class ErrorDetail(BaseModel):
    """What went wrong, for people and for programs."""

    message: str = Field(description="What is wrong, with the value and what would be accepted")
    type: str = Field(description="invalid_request_error, rate_limit_error or server_error")
    param: str | None = Field(
        description="The field or parameter at fault, as a dotted path; null if not a single one"
    )
    code: str | None = Field(description="Machine-readable code, such as invalid_value or model_not_found")


class ErrorBody(BaseModel):
    """The shape of every error response, for the API's documentation."""

    error: ErrorDetail = Field(description="What went wrong")
