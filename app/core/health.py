"""Liveness and readiness."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import get_engine, read_session
from app.core.live_workers import workers_warning
from app.core.migrate import schema_standing
from app.core.queue import broker_alive
from app.core.quick_reads import QUICK_CONNECTIONS
from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.core.store.remote import QUICK, remote

#: For migrations, backups and people.
OTHER_CONNECTIONS = 10
# Kept with the connection: a server that was started again, with other numbers, has new ones.
_ROOM = (
    "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
)

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = Field(default="ok", description="Always ok; a dead process does not answer")


# Monitors that want no body ask with HEAD.
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> Liveness:
    """Check that the process is alive.

    It answers even if all threads are busy; ``/readyz`` says whether the service can do its work.
    """
    return Liveness()


class Readiness(BaseModel):
    """The parts that the service needs, and whether each answers."""

    status: Literal["ready", "unavailable"] = Field(description="ready when every check is ok")
    checks: dict[str, str] = Field(
        description="database, schema, broker, and store if there is one: ok, or what is wrong"
    )
    warnings: list[str] = Field(description="What works now but may fail under load")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness, "description": "A check failed"}})
def readyz(response: Response) -> Readiness:
    """Check whether the service can do its work.

    It checks database, schema, broker and store, and answers 503 if one of them fails.
    """
    checks = {"database": "ok", "schema": "ok", "broker": "ok" if broker_alive() else "does not answer"}
    warnings = []
    try:
        checks["schema"] = schema_standing().problem or "ok"
        with read_session() as session:
            found = (connections_warning(), workers_warning(session) if checks["schema"] == "ok" else None)
        warnings = [warning for warning in found if warning]
    except SQLAlchemyError as error:
        checks["database"] = f"does not answer: {type(error).__name__}"
        checks["schema"] = "unknown"
    if (store := remote(patience=QUICK)) is not None:
        checks["store"] = "ok"
        try:
            store.check()
        except StoreError as error:
            checks["store"] = error.message
    ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "unavailable", checks=checks, warnings=warnings)


def connections_warning() -> str | None:
    """Where PostgreSQL has too few connections for one API process and one worker, what to set; or None.

    How many processes there are nobody knows: more of them want more. A pooler has limits of its own.
    """
    settings = get_settings()
    engine = get_engine()
    if engine.dialect.name != "postgresql" or settings.database_pooler:
        return None
    with engine.connect() as connection:
        if _ROOM not in connection.info:
            connection.info[_ROOM] = tuple(connection.exec_driver_sql(_ROOM).one())
        most, reserved = connection.info[_ROOM]
    each = settings.database_connections
    wanted = 2 * each + QUICK_CONNECTIONS + OTHER_CONNECTIONS
    if most - reserved >= wanted:
        return None
    room = (most - reserved - QUICK_CONNECTIONS - OTHER_CONNECTIONS) // 2
    fewer = f", or POLICYSPLIT_DATABASE_CONNECTIONS to {room} at most" if room >= 2 else ""
    return (
        f"PostgreSQL has max_connections = {most}, {reserved} of them reserved; an API process may open "
        f"{each + QUICK_CONNECTIONS}, a worker {each}, and {OTHER_CONNECTIONS} are for others. "
        f"Set max_connections to {wanted + reserved} at least{fewer}."
    )
