"""Looks up what a job's request refers to: its data, the weights to train, its evaluation's encoder."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.errors import BadRequest
from app.core.tables import File
from app.files.service import training_file
from app.files.storage import place_of
from app.jobs.schemas import CreateJob
from app.models.catalog import Weights, encoder_to_use, weights_to_train
from trainer.spec.data import Data, EnvironmentData, JsonlData

_EMBEDDING_MODEL = "method.reinforcement.evaluation.embedding_model"


@dataclass(frozen=True)
class Sources:
    """The rows that a request refers to."""

    training: File | EnvironmentData
    validation: File | EnvironmentData | None
    model: Weights
    encoder: str | None
    """Its place."""


def find_sources(session: Session, project_id: str, request: CreateJob) -> Sources:
    """The rows behind a request's ids. Raises BadRequest for what cannot be had."""
    _given_once(request)
    ours = request.method.reinforcement
    if ours is None:
        _check_no_task(request)
    training = request.environment or training_file(
        session, project_id, request.training_file, "training_file"
    )
    if request.validation_file is not None:
        validation = training_file(session, project_id, request.validation_file, "validation_file")
    elif (
        request.validation_environment is None and isinstance(training, EnvironmentData) and ours is not None
    ):
        validation = _held_out(training, ours.evaluation.max_items)
    else:
        validation = request.validation_environment
    encoder = None if ours is None else ours.evaluation.embedding_model
    return Sources(
        training,
        validation,
        weights_to_train(session, project_id, request.model),
        None if encoder is None else encoder_to_use(encoder, _EMBEDDING_MODEL),
    )


def _held_out(training: EnvironmentData, size: int) -> EnvironmentData:
    """Items that are not trained: a reasoning-gym task makes item i from the number seed + i."""
    return training.model_copy(update={"seed": training.seed + training.size, "size": size})


def data_of(source: File | EnvironmentData) -> Data:
    """As the trainer reads it."""
    return source if isinstance(source, EnvironmentData) else JsonlData(path=place_of(source))


def rows_of(source: File | EnvironmentData) -> int:
    """How many items it has."""
    return source.size if isinstance(source, EnvironmentData) else source.rows or 0


def _check_no_task(request: CreateJob) -> None:
    for name in ("environment", "validation_environment"):
        if getattr(request, name) is not None:
            raise BadRequest(
                f"Invalid '{name}': a task's items have questions but no answers, so a "
                f"{request.method.type} job cannot learn from them. Give a file, or a method of the type "
                "'reinforcement'.",
                param=name,
            )


def _given_once(request: CreateJob) -> None:
    if (request.training_file is None) == (request.environment is None):
        found = "both are" if request.training_file is not None else "neither is"
        raise BadRequest(
            f"Give either 'training_file' (the id of an uploaded file) or 'environment'; {found} given.",
            param="training_file",
            code="missing_required_parameter" if found == "neither is" else "conflicting_parameters",
        )
    if request.validation_file is not None and request.validation_environment is not None:
        raise BadRequest(
            "Give either 'validation_file' or 'validation_environment', not both.",
            param="validation_file",
            code="conflicting_parameters",
        )
