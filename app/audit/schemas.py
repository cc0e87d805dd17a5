"""The audit log on the wire, in the hosted service's form where it has one."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.audit import Change
from app.core.description import Kind
from app.core.strict_json import JsonObject
from app.core.tables import AuditEntry


class AuditProject(BaseModel):
    """The project that a change was made in."""

    id: str = Field(description="Id of the project, `proj_…`")
    name: str = Field(description="What it is called now")


class AuditKey(BaseModel):
    """The key that a change was made with."""

    id: str = Field(description="Id of the key, `key_…`; not its secret")


class AuditActor(BaseModel):
    """Who made a change."""

    type: Literal["api_key", "session", "operator"] = Field(
        description="api_key: a key; session: someone signed in to the dashboard; operator: someone on "
        "the machine itself, or the service on its own"
    )
    api_key: AuditKey | None = Field(description="The key; null if it was not one")
    email: str | None = Field(description="The person signed in; null if it was not a sign-in")
    ip_address: str | None = Field(
        description="The client's address, as reported by trusted proxies; null if not made by a request"
    )


class AuditEntryObject(BaseModel):
    """A change, with who made it."""

    id: str = Field(description="Id of the entry, `audit_log-…`")
    object: Kind[Literal["audit_log"]]
    type: Change = Field(description="Kind of change")
    effective_at: int = Field(description="When it was made, Unix time in seconds")
    project: AuditProject = Field(description="Project it was made in")
    actor: AuditActor = Field(description="Who made the change")
    request_id: str | None = Field(
        description="The `x-request-id` of the request that made it; null if none did"
    )
    resource_id: str = Field(description="Id of what was changed")
    details: JsonObject = Field(description="Further details, by kind of change; no secrets")


def entry_view(row: AuditEntry, project_name: str) -> dict[str, object]:
    """An entry."""
    person = row.actor_id is not None and "@" in row.actor_id
    kind = "operator" if row.actor_id is None else "session" if person else "api_key"
    return {
        "id": row.id,
        "object": "audit_log",
        "type": row.type,
        "effective_at": int(row.at),
        "project": {"id": row.project_id, "name": project_name},
        "actor": {
            "type": kind,
            "api_key": {"id": row.actor_id} if kind == "api_key" else None,
            "email": row.actor_id if person else None,
            "ip_address": row.address,
        },
        "request_id": row.request_id,
        "resource_id": row.object_id,
        "details": row.details,
    }
