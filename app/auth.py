"""Who is asking: the one place where a request gets its project."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.tables import DEFAULT_PROJECT

_bearer = HTTPBearer(auto_error=False, description="Any key: this service runs without keys")


def current_project(_key: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The id of the caller's project.

    The service runs keyless: whatever key a client sends is accepted, and all work belongs to one project.
    """
    return DEFAULT_PROJECT


ProjectId = Annotated[str, Depends(current_project)]
