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
        default=None, description="Which project it works in; default: that of the key that asks"
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="How many requests it may send a minute; default: as the operator has set",
    )
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] | None = Field(
        default=None,
        description="What it may do: read what there is, train, ask models (infer), manage keys and webhooks "
        "and what others may see (admin); default: what the key that asks may",
    )
    operator: bool = Field(
        default=False,
        description="true: it makes projects, and manages the keys of all; only an operator's key makes such",
    )


class KeyObject(BaseModel):
    """A key, without its secret."""

    id: str = Field(description="Id of the key, `key_…`; it opens nothing")
    object: Kind[Literal["api_key"]]
    created_at: CreatedAt
    name: str = Field(description="What it is for, as whoever made it said")
    hint: str = Field(description="The end of its secret, to tell keys apart")
    project_id: str = Field(description="The project that it works in")
    project_name: str = Field(description="What that project is called")
    requests_per_minute: int | None = Field(
        description="A limit of its own; null: as the operator has set for all"
    )
    scopes: list[Scope] = Field(description="What it may do")
    operator: bool = Field(description="Whether it makes projects, and manages the keys of all")
    created_by: str | None = Field(
        description="Id of the key that made it, or who had signed in; null: the operator did, on the "
        "machine itself"
    )
    last_used_at: int | None = Field(
        description="When a request came with it, to some ten seconds, Unix time; null: never"
    )
    revoked_at: int | None = Field(description="Since when it is refused, Unix time; null: it works")
    current: bool = Field(description="Whether it is the key that this request came with")


class KeyWithSecret(KeyObject):
    """A key that is new, with its secret, which is shown this once."""

    secret: str = Field(
        description="`sk-…`, what requests send: keep it, for it is shown this once, and its hash alone is "
        "stored"
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

    name: Name = Field(description="What no other project is called; 1 to 256 printable characters")


class ProjectLimits(StrictModel):
    """What a project may use; null, or left out: as the operator has set for all."""

    jobs: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None, description="Jobs that have not ended, at a time; a further one is refused"
    )
    gpu_hours_per_month: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None,
        description="GPU-hours of its jobs in a calendar month (UTC). Once they are used no job is taken in, "
        "and those that run are paused",
    )
    storage_bytes: Annotated[int, Field(ge=0, le=1 << 62)] | None = Field(
        default=None, description="Bytes of files and runs together; beyond it no file and no job is taken in"
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Requests of all its keys together"
    )


class UpdateProject(StrictModel):
    """The body of ``POST /v1/projects/{project_id}``; what is left out stays."""

    name: Name | None = Field(default=None, description="A new name, which no other project has")
    limits: ProjectLimits | None = Field(
        default=None, description="Its limits from now on, all of them: what is left out is not limited"
    )


class ProjectObject(BaseModel):
    """A project: files, jobs, models and whatever else is of one are seen by its own keys alone."""

    id: str = Field(description="Id of the project, `proj_…`")
    object: Kind[Literal["project"]]
    created_at: CreatedAt
    name: str = Field(description="What it is called")
    limits: ProjectLimits = Field(description="What it may use, where the operator has limited it")


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
