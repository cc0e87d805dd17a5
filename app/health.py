"""Liveness and readiness."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.exc import SQLAlchemyError

from app.db import get_engine
from app.migrate import current_revision, head_revision
from app.queue import broker_alive

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(response: Response) -> dict[str, Any]:
    """Whether the service can do its work: database, schema, broker. 503 when one of them fails."""
    checks = {"database": "ok", "schema": "ok", "broker": "ok" if broker_alive() else "does not answer"}
    try:
        checks["schema"] = schema_problem() or "ok"
    except SQLAlchemyError as error:
        checks["database"] = f"does not answer: {type(error).__name__}"
        checks["schema"] = "unknown"
    ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if ready else 503
    return {"status": "ready" if ready else "unavailable", "checks": checks}


def schema_problem() -> str | None:
    """What is wrong with the schema's revision, or None."""
    current, head = current_revision(get_engine()), head_revision()
    if current == head:
        return None
    return f"at revision {current or 'none'}, this version needs {head}: upgrade it with app.migrate"
