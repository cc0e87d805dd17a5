"""``/v1/models``."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import ListOf, answers
from app.core.paging import After
from app.core.parameters import ModelName
from app.core.requests import StrictRoute
from app.models import service
from app.models.deletion import delete_model
from app.models.schemas import ModelDeleted, ModelObject

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=StrictRoute)

# The SDK takes the list for the whole of it and does not ask for a second page.
Limit = Annotated[int, Query(ge=1, le=10_000, description="How many models a page has")]


@router.get("", **answers(ListOf[ModelObject]))
def list_models(project: ProjectId, after: After = None, limit: Limit = 1000) -> Response:
    """Base models and the ids, one for each mode, of the finished checkpoints, newest first."""
    with read_session() as session:
        return service.list_models(session, project, after, limit)


@router.get("/{model_id:path}")
def get_model(model_id: ModelName, project: ProjectId) -> ModelObject:
    """One model; its id may contain slashes."""
    with read_session() as session:
        return service.find_model(session, project, model_id).shown


@router.delete("/{model_id:path}")
def remove_model(model_id: ModelName, project: ProjectId) -> ModelDeleted:
    """Delete a fine-tuned model that no unfinished job needs: both modes, and all ids of its checkpoint."""
    delete_model(project, model_id)
    return ModelDeleted(id=model_id)
