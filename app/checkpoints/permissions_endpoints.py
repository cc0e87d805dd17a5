"""``/v1/fine_tuning/checkpoints/{model}/permissions``; the model's id may contain slashes."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.checkpoints import permissions
from app.checkpoints.objects import PermissionDeleted, PermissionObject
from app.checkpoints.permissions import CreatePermissions, Order
from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import CheckpointName, PermissionId
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN, READ

router = APIRouter(
    prefix="/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint:path}/permissions",
    tags=["checkpoints"],
    route_class=StrictRoute,
)


@router.post("", **answers(ListOf[PermissionObject]), **ADMIN)
def create_permissions(
    fine_tuned_model_checkpoint: CheckpointName, body: CreatePermissions, project: ProjectId
) -> Response:
    """Share a checkpoint with other projects.

    They may query it in both modes and continue training from it.
    """
    made = permissions.create(project, fine_tuned_model_checkpoint, body)
    return page(made, len(made))


@router.get("", **answers(ListOf[PermissionObject]), **READ)
def list_permissions(
    fine_tuned_model_checkpoint: CheckpointName,
    project: ProjectId,
    after: After = None,
    limit: Limit = 10,
    order: Annotated[Order, Query(description="descending: the newest first")] = "descending",
    project_id: Annotated[str | None, Query(description="Only this project's permission")] = None,
) -> Response:
    """List the projects that a checkpoint is shared with."""
    rows = permissions.listing(
        project, fine_tuned_model_checkpoint, after=after, limit=limit, order=order, shared_with=project_id
    )
    return page(rows, limit)


@router.delete("/{permission_id}", **answers(PermissionDeleted), **ADMIN)
def delete_permission(
    fine_tuned_model_checkpoint: CheckpointName, permission_id: PermissionId, project: ProjectId
) -> dict[str, object]:
    """Stop sharing a checkpoint with a project."""
    permissions.delete(project, fine_tuned_model_checkpoint, permission_id)
    return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}
