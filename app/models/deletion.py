"""Removing a fine-tuned model: its row, its names and its weights."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.checkpoints.naming import BadModelId, is_fine_tuned, parse_model_id
from app.checkpoints.repository import checkpoint_of, result_checkpoint
from app.core.audit import record
from app.core.db import write_session
from app.core.errors import BadRequest, Conflict, Forbidden, NotFound
from app.core.job_log import add_event
from app.core.job_status import is_terminal
from app.core.settings import get_settings
from app.core.store.artefacts import remove
from app.core.tables import Checkpoint, EvalRun, Job
from app.core.unfinished import unfinished
from app.models.catalog import base_models
from trainer.spec.modes import Mode


def delete_model(project_id: str, name: str) -> None:
    """Remove the checkpoint behind ``name``, with all ids that lead to it; raises an ApiError.

    With the one that is its job's result the job's ``fine_tuned_model`` goes.
    """
    stored = _stored_name(name)
    with write_session() as session:
        checkpoint = checkpoint_of(session, project_id, stored)
        if checkpoint is None:
            raise _no_such(name)
        if checkpoint.project_id != project_id:
            raise Forbidden(
                f"The model '{name}' belongs to another project, which shares it; only that project can "
                "delete it.",
                param="model",
            )
        job = session.scalars(select(Job).where(Job.id == checkpoint.job_id).with_for_update()).one()
        _check_unused(session, job, checkpoint)
        result = result_checkpoint(session, job.id)
        if result is not None and result.id == checkpoint.id:
            job.fine_tuned_model = None
        add_event(session, job.id, "info", "message", f"The model {checkpoint.model} has been deleted.")
        session.delete(checkpoint)
        record(session, "model.deleted", checkpoint.model, project_id, job_id=job.id)
        place = checkpoint.path
    remove(place, get_settings().runs_dir)


def _stored_name(name: str) -> str:
    if not is_fine_tuned(name):
        if name not in base_models():
            raise _no_such(name)
        raise Forbidden(
            f"'{name}' is a base model, which all projects share; the operator removes it from the models "
            "folder. Only fine-tuned models can be deleted here.",
            param="model",
        )
    try:
        parsed = parse_model_id(name)
    except BadModelId:
        raise _no_such(name) from None
    if parsed.mode is not Mode.NORMAL:
        raise BadRequest(
            f"Invalid value for 'model': '{name}' names a mode, but both modes are one set of weights. To "
            f"delete them, give '{parsed.stored}'.",
            param="model",
        )
    return parsed.stored


def _no_such(name: str) -> NotFound:
    return NotFound(f"The model '{name}' does not exist.", param="model", code="model_not_found")


def _check_unused(session: Session, job: Job, checkpoint: Checkpoint) -> None:
    if not is_terminal(job.status):
        raise Conflict(
            f"The job '{job.id}', which made the model, is {job.status} and may be resumed from it. "
            "Cancel the job first.",
            param="model",
            code="model_in_use",
        )
    names = [name for name in (checkpoint.model, job.fine_tuned_model) if name]
    user = session.scalars(select(Job.id).where(Job.model.in_(names), *unfinished()).limit(1)).first()
    if user is not None:
        raise Conflict(
            "An unfinished job starts from this model. Cancel it first.",
            param="model",
            code="model_in_use",
        )
    run = select(EvalRun.id).where(EvalRun.weights.in_(names), EvalRun.finished_at.is_(None))
    if (asking := session.scalars(run.limit(1)).first()) is not None:
        raise Conflict(
            f"The eval run '{asking}', which has not finished, queries this model. Cancel it first.",
            param="model",
            code="model_in_use",
        )
