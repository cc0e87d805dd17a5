"""``/v1/api_keys`` and ``/v1/projects``."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import KeyId, ProjectName
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN, READ
from app.keys import access
from app.keys.asking import Asking
from app.keys.schemas import (
    CreateKey,
    CreateProject,
    KeyObject,
    KeyWithSecret,
    ProjectObject,
    UpdateProject,
)

router = APIRouter(prefix="/v1", tags=["keys"], route_class=StrictRoute)
#: What has a secret in it is in no cache on the way.
_UNKEPT = {"cache-control": "no-store"}


OfProject = Annotated[
    str | None,
    Query(description="Only keys of this project; default: your own, or all for the operator"),
]


@router.post("/api_keys", **answers(KeyWithSecret), **ADMIN)
def create_key(body: CreateKey, caller: Asking, response: Response) -> dict[str, object]:
    """Create a key of the project.

    Its secret is shown only now. The very first key ends keyless use: from then on every request needs one.
    """
    response.headers.update(_UNKEPT)
    return access.create_key(caller, body)


@router.get("/api_keys", **answers(ListOf[KeyObject]), **ADMIN)
def list_keys(
    caller: Asking, project_id: OfProject = None, after: After = None, limit: Limit = 20
) -> Response:
    """List keys with when they were last used, newest first.

    Includes revoked keys; secrets are never shown.
    """
    return page(access.list_keys(caller, project_id, after=after, limit=limit), limit)


@router.post("/api_keys/{key_id}/revoke", **answers(KeyObject), **ADMIN)
def revoke_key(key_id: KeyId, caller: Asking) -> dict[str, object]:
    """Revoke a key for good.

    Within three seconds requests with it are refused, and answers in progress end.
    """
    return access.revoke_key(caller, key_id)


@router.post("/projects", **answers(ProjectObject), **ADMIN)
def create_project(body: CreateProject, caller: Asking) -> dict[str, object]:
    """Create a project, as the operator.

    To use it, create a key with its id as project_id.
    """
    return access.create_project(caller, body)


@router.get("/projects", **answers(ListOf[ProjectObject]), **READ)
def list_projects(caller: Asking, after: After = None, limit: Limit = 20) -> Response:
    """List the projects that the key may see, oldest first.

    Its own project, or all for the operator.
    """
    return page(access.list_projects(caller, after=after, limit=limit), limit)


@router.get("/projects/{project_id}", **answers(ProjectObject), **READ)
def retrieve_project(project_id: ProjectName, caller: Asking) -> dict[str, object]:
    """Get a project and its limits."""
    return access.retrieve_project(caller, project_id)


@router.post("/projects/{project_id}", **answers(ProjectObject), **ADMIN)
def update_project(project_id: ProjectName, body: UpdateProject, caller: Asking) -> dict[str, object]:
    """Change a project's name and limits, as the operator.

    Accepted jobs stay: a limit refuses new ones, and running jobs are paused once GPU-hours are used up.
    """
    return access.update_project(caller, project_id, body)
