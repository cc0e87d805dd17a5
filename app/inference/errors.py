"""What can go wrong between the gateway and the engine."""

from app.core.errors import ApiError, BadRequest, Unavailable


class EngineFailed(ApiError):
    """500: the engine, or the inference worker, failed on a request that was fine."""

    default_code = "engine_error"


class NoInferenceWorker(Unavailable):
    """503: no inference worker is registered and alive."""

    def __init__(self) -> None:
        super().__init__(
            "No inference worker is running, so no model can answer. `policysplit serve` includes one; "
            "`policysplit inference` runs only that.",
            retry_after=5,
            code="no_inference_worker",
        )


class GradingFailed(ApiError):
    """500: the grader gave no answer a reward."""

    default_code = "grader_failed"


def translated(error: object, retry_after: str | None = None) -> ApiError:
    """An engine's or inference worker's ``error`` as one of ours."""
    if not isinstance(error, dict):
        return EngineFailed(f"The engine failed: {str(error)[:1000]}")
    message, code = str(error.get("message", "")), error.get("code")
    if code == "invalid_api_key":
        return EngineFailed(
            "The inference worker rejected the gateway's token: POLICYSPLIT_INFERENCE_TOKEN must be the "
            "same for both."
        )
    if error.get("type") == "invalid_request_error":
        return BadRequest(message, param=error.get("param"), code=code)
    if code in ("engine_unavailable", "insufficient_memory", "prompt_mismatch"):
        seconds = int(retry_after) if retry_after and retry_after.isdigit() else 2
        return Unavailable(f"The model cannot answer now: {message}.", retry_after=seconds, code=code)
    return EngineFailed(message)
