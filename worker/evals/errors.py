"""Why a run of an eval stops before its last item."""

from typing import Literal


class Stopped(Exception):
    """Somebody wants it to: its user, or the worker, which shuts down."""

    def __init__(self, why: Literal["canceled", "paused", "shutdown"]):
        super().__init__(why)
        self.why: Literal["canceled", "paused", "shutdown"] = why


class RunFailed(Exception):
    """No item that is left can be done."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code

    @property
    def error(self) -> dict[str, str]:
        return {"code": self.code, "message": str(self)}
