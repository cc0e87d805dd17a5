"""Liveness and readiness."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.db import get_engine
from app.migrate import current_revision, head_revision
from app.queue import broker_alive

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


class Readiness(BaseModel):
    """Each part the service needs, and whether it answers."""

    status: Literal["ready", "unavailable"]
    checks: dict[str, str]


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something does not answer"}})
def readyz(response: Response) -> Readiness:
    """Whether the service can do its work: database, schema, broker. 503 when one of them fails."""
    checks = {"database": "ok", "schema": "ok", "broker": "ok" if broker_alive() else "does not answer"}
    try:
        checks["schema"] = schema_problem() or "ok"
    except SQLAlchemyError as error:
        checks["database"] = f"does not answer: {type(error).__name__}"
        checks["schema"] = "unknown"
    ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "unavailable", checks=checks)


def schema_problem() -> str | None:
    """What is wrong with the schema's revision, or None."""
    current, head = current_revision(get_engine()), head_revision()
    if current == head:
        return None
    return f"at revision {current or 'none'}, this version needs {head}: upgrade it with app.migrate"
