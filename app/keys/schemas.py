"""Keys and projects on the wire."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from app.core.description import CreatedAt, Kind
from app.core.scope_names import Scope
from app.core.tables import ApiKey, Project
from app.keys.repository import Caller, scopes_held
from app.keys.service import check_name
from trainer.graders.spec import StrictModel

Name = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(check_name)]


class CreateKey(StrictModel):
    """The body of ``POST /v1/api_keys``."""

    name: Name = Field(description="What the key is for; 1 to 256 printable characters")
    project_id: str | None = Field(
        default=None, description="Project it belongs to; default: that of the requesting key"
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="Requests it may send per minute; default: the operator's setting",
    )
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] | None = Field(
        default=None,
        description="What it may do: read; train; infer (query models); admin (manage keys, webhooks and "
        "sharing); default: what the requesting key may",
    )
    operator: bool = Field(
        default=False,
        description="Whether it may create projects and manage all keys; only an operator's key can "
        "create one",
    )


class KeyObject(BaseModel):
    """A key, without its secret."""

    id: str = Field(description="Id of the key, `key_…`; not its secret")
    object: Kind[Literal["api_key"]]
    created_at: CreatedAt
    name: str = Field(description="What it is for, as given on creation")
    hint: str = Field(description="The last characters of its secret, to tell keys apart")
    project_id: str = Field(description="Project it belongs to")
    project_name: str = Field(description="What that project is called")
    requests_per_minute: int | None = Field(description="Its own limit; null: the operator's setting")
    scopes: list[Scope] = Field(description="What it may do")
    operator: bool = Field(description="Whether it may create projects and manage all keys")
    created_by: str | None = Field(
        description="Id of the key that created it, or the person signed in; null: the operator, on the "
        "machine itself"
    )
    last_used_at: int | None = Field(
        description="When it was last used, to about ten seconds, Unix time in seconds; null: never"
    )
    revoked_at: int | None = Field(description="When it was revoked, Unix time in seconds; null: it is valid")
    current: bool = Field(description="Whether it is the key used for this request")


class KeyWithSecret(KeyObject):
    """A new key with its secret, which is shown only once."""

    secret: str = Field(
        description="`sk-…`, sent with requests: keep it, since it is shown only once and only its hash "
        "is stored"
    )


#: Of a project's limits by their names on the wire.
LIMIT_COLUMNS = {
    "jobs": "max_jobs",
    "gpu_hours_per_month": "max_gpu_hours",
    "storage_bytes": "max_bytes",
    "requests_per_minute": "requests_per_minute",
}


class CreateProject(StrictModel):
    """The body of ``POST /v1/projects``."""

    name: Name = Field(description="A name that no other project has; 1 to 256 printable characters")


class ProjectLimits(StrictModel):
    """What a project may use; null or left out: the operator's setting for all."""

    jobs: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None, description="Unfinished jobs at a time; further ones are refused"
    )
    gpu_hours_per_month: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None,
        description="GPU-hours of its jobs in a calendar month (UTC). Once used up, new jobs are refused "
        "and running ones paused",
    )
    storage_bytes: Annotated[int, Field(ge=0, le=1 << 62)] | None = Field(
        default=None, description="Total bytes of files and runs; beyond it files and jobs are refused"
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Requests per minute of all its keys together"
    )


class UpdateProject(StrictModel):
    """The body of ``POST /v1/projects/{project_id}``; fields left out stay."""

    name: Name | None = Field(default=None, description="A new name that no other project has")
    limits: ProjectLimits | None = Field(
        default=None, description="All of its limits from now on; those left out are removed"
    )


class ProjectObject(BaseModel):
    """A project: only its own keys see its files, jobs and models."""

    id: str = Field(description="Id of the project, `proj_…`")
    object: Kind[Literal["project"]]
    created_at: CreatedAt
    name: str = Field(description="What it is called")
    limits: ProjectLimits = Field(description="Its limits, where the operator has set some")


def key_view(
    row: ApiKey, project: Project, caller: Caller, *, new_secret: str | None = None
) -> dict[str, object]:
    """A key; its secret only when it is new."""
    return {
        "id": row.id,
        "object": "api_key",
        "created_at": int(row.created_at),
        "name": row.name,
        "hint": row.hint,
        "project_id": project.id,
        "project_name": project.name,
        "requests_per_minute": row.requests_per_minute,
        "scopes": scopes_held(row.scopes),
        "operator": row.operator,
        "created_by": row.created_by,
        "last_used_at": None if row.last_used_at is None else int(row.last_used_at),
        "revoked_at": None if row.revoked_at is None else int(row.revoked_at),
        "current": row.id == caller.key_id,
        **({} if new_secret is None else {"secret": new_secret}),
    }


def project_view(row: Project) -> dict[str, object]:
    """A project."""
    return {
        "id": row.id,
        "object": "project",
        "created_at": int(row.created_at),
        "name": row.name,
        "limits": {name: getattr(row, column) for name, column in LIMIT_COLUMNS.items()},
    }
