"""Sharing: a checkpoint's owner lets other projects ask it, and train on from it."""

import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.checkpoints.naming import BadModelId, parse_model_id
from app.checkpoints.repository import owned_checkpoint
from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.ids import new_permission_id
from app.core.paging import unknown_cursor
from app.core.tables import Checkpoint, CheckpointPermission, Project
from app.core.upsert import insert_for
from app.core.validation import abbreviated
from trainer.graders.spec import StrictModel

Order = Literal["ascending", "descending"]


class CreatePermissions(StrictModel):
    """The body of ``POST …/permissions``."""

    project_ids: list[str] = Field(
        min_length=1,
        max_length=100,
        description="Projects that may use the checkpoint, `proj_…`, 1 to 100; existing permissions are kept",
    )


def create(project_id: str, model: str, request: CreatePermissions) -> list[dict[str, object]]:
    """Share with each of the projects; those it is shared with already keep their permission."""
    with write_session() as session:
        checkpoint = _owned(session, project_id, model)
        for index, other in enumerate(request.project_ids):
            _check_project(session, project_id, other, f"project_ids.{index}")
            statement = insert_for(session, CheckpointPermission).values(
                id=new_permission_id(),
                checkpoint_id=checkpoint.id,
                project_id=other,
                created_at=time.time(),
            )
            session.execute(statement.on_conflict_do_nothing(index_elements=["checkpoint_id", "project_id"]))
        record(
            session,
            "checkpoint.permission.created",
            checkpoint.model,
            project_id,
            project_ids=request.project_ids,
        )
        rows = session.scalars(
            _of(checkpoint).where(CheckpointPermission.project_id.in_(request.project_ids))
        )
        return [_view(row) for row in rows]


def listing(
    project_id: str, model: str, *, after: str | None, limit: int, order: Order, shared_with: str | None
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 permissions."""
    key = tuple_(CheckpointPermission.created_at, CheckpointPermission.id)
    with read_session() as session:
        checkpoint = _owned(session, project_id, model)
        query = _of(checkpoint)
        if shared_with is not None:
            query = query.where(CheckpointPermission.project_id == shared_with)
        if after is not None:
            cursor = session.get(CheckpointPermission, after)
            if cursor is None or cursor.checkpoint_id != checkpoint.id:
                raise unknown_cursor(after)
            place = tuple_(cursor.created_at, cursor.id)
            query = query.where(key > place if order == "ascending" else key < place)
        columns = (CheckpointPermission.created_at, CheckpointPermission.id)
        query = query.order_by(*(one if order == "ascending" else one.desc() for one in columns))
        rows: Sequence[CheckpointPermission] = session.scalars(query.limit(limit + 1)).all()
        return [_view(row) for row in rows]


def delete(project_id: str, model: str, permission_id: str) -> None:
    """Share no longer; raises NotFound."""
    with write_session() as session:
        checkpoint = _owned(session, project_id, model)
        row = session.scalars(_of(checkpoint).where(CheckpointPermission.id == permission_id)).first()
        if row is None:
            raise NotFound(f"No such permission: '{permission_id}'.", param="permission_id")
        session.delete(row)
        details = {"project_ids": [row.project_id]}
        record(session, "checkpoint.permission.deleted", checkpoint.model, project_id, **details)


def _owned(session: Session, project_id: str, model: str) -> Checkpoint:
    """The project's own checkpoint; a permission is for the weights, so for both modes."""
    try:
        stored = parse_model_id(model).stored
    except BadModelId:
        stored = ""
    checkpoint = owned_checkpoint(session, project_id, stored)
    if checkpoint is None:
        raise NotFound(
            f"No such fine-tuned model checkpoint: '{model}'.", param="fine_tuned_model_checkpoint"
        )
    return checkpoint


def _of(checkpoint: Checkpoint) -> Any:
    return select(CheckpointPermission).where(CheckpointPermission.checkpoint_id == checkpoint.id)


def _check_project(session: Session, owner: str, other: str, param: str) -> None:
    if other == owner:
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(other)} is the project that the checkpoint "
            "belongs to. Give a different one.",
            param=param,
        )
    if session.get(Project, other) is None:
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(other)} does not exist. Give the id of a project, "
            "as listed by `policysplit projects list`.",
            param=param,
            code="project_not_found",
        )


def _view(row: CheckpointPermission) -> dict[str, object]:
    return {
        "id": row.id,
        "object": "checkpoint.permission",
        "created_at": int(row.created_at),
        "project_id": row.project_id,
    }
