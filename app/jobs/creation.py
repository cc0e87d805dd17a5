"""Taking a job in: everything that could make it fail later is asked now, then one commit."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import read_session, write_session
from app.errors import BadRequest
from app.files import repository as files
from app.files.schemas import PURPOSES
from app.files.storage import path_of
from app.graders.checks import check_grader
from app.idempotency import check_key, made_before, request_digest
from app.ids import new_job_id
from app.jobs.environments import check_task
from app.jobs.grader_check import GRADER_PARAM, check_item_fields
from app.jobs.resolution import Resolved, resolve
from app.jobs.schemas import CreateJob
from app.jobs.status import JobStatus, add_event, change_status
from app.jobs.views import job_views
from app.models.catalog import encoder_to_use, weights_to_train
from app.queue import announce
from app.tables import File, Job
from app.validation import abbreviated
from trainer.spec import Data, EnvironmentData, JsonlData

_EMBEDDING_MODEL = "method.reinforcement.evaluation.embedding_model"


@dataclass(frozen=True)
class _Sources:
    """The rows that a request refers to."""

    training: File | EnvironmentData
    validation: File | EnvironmentData | None
    model_path: Path
    encoder_path: Path | None


def create_job(project_id: str, request: CreateJob, idempotency_key: str | None) -> dict[str, Any]:
    """Check a request and queue its job. When this returns, the job survives a power cut.

    The same key with the same request gives the job that the first one made.
    """
    check_key(idempotency_key)
    digest = request_digest(request)
    if earlier := _earlier(project_id, idempotency_key, digest):
        return earlier
    job_id = new_job_id()
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    resolved = check_job(project_id, request, job_id=job_id, seed=seed)
    job = _job(job_id, project_id, request, resolved, seed, digest, idempotency_key)
    try:
        with write_session() as session:
            _lock_files(session, request)
            _insert(session, job)
            view = job_views(session, [job])[0]
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(project_id, idempotency_key, digest):
            return earlier
        raise
    announce(job_id)
    return view


def validate_job(project_id: str, request: CreateJob) -> dict[str, Any]:
    """All that :func:`create_job` asks of a request, and what would be trained; nothing is created."""
    resolved = check_job(project_id, request, seed=request.seed or 0)
    return {
        "object": "fine_tuning.job.validation",
        "valid": True,
        "total_steps": resolved.run_spec.total_steps,
        "method": resolved.method,
    }


def check_job(project_id: str, request: CreateJob, *, job_id: str = "ftjob-", seed: int = 0) -> Resolved:
    """What would run. Raises BadRequest for everything that would have the job refused."""
    with read_session() as session:
        sources = _sources(session, project_id, request)
    _check_data(request, sources)
    return resolve(
        request,
        job_id=job_id,
        model_path=sources.model_path,
        encoder_path=sources.encoder_path,
        training=_data(sources.training),
        training_rows=_rows(sources.training),
        validation=None if sources.validation is None else _data(sources.validation),
        seed=seed,
    )


def _insert(session: Session, job: Job) -> None:
    session.add(job)
    session.flush()
    add_event(session, job.id, "info", "message", f"Created fine-tuning job: {job.id}")
    change_status(
        session, job, JobStatus.QUEUED, message="The files and the grader fit together; the job is queued."
    )


def _earlier(project_id: str, key: str | None, digest: str) -> dict[str, Any] | None:
    """The job that was created with ``key``; raises Conflict when its request was another."""
    with read_session() as session:
        job = made_before(session, Job, project_id, key, digest)
        return None if job is None else job_views(session, [job])[0]


def _sources(session: Session, project_id: str, request: CreateJob) -> _Sources:
    if (request.training_file is None) == (request.environment is None):
        found = "both are" if request.training_file is not None else "neither is"
        raise BadRequest(
            f"Give either 'training_file' (the id of an uploaded file) or 'environment'; {found} given.",
            param="training_file",
            code="missing_required_parameter" if found == "neither is" else "conflicting_parameters",
        )
    if request.validation_file is not None and request.validation_environment is not None:
        raise BadRequest(
            "Give either 'validation_file' or 'validation_environment'; both are given.",
            param="validation_file",
            code="conflicting_parameters",
        )
    training = request.environment or _file(session, project_id, request.training_file, "training_file")
    if request.validation_file is not None:
        validation = _file(session, project_id, request.validation_file, "validation_file")
    elif request.validation_environment is None and isinstance(training, EnvironmentData):
        validation = _held_out(training, request.method.reinforcement.evaluation.max_items)
    else:
        validation = request.validation_environment
    encoder = request.method.reinforcement.evaluation.embedding_model
    return _Sources(
        training,
        validation,
        weights_to_train(session, project_id, request.model).path,
        None if encoder is None else encoder_to_use(encoder, _EMBEDDING_MODEL),
    )


def _held_out(training: EnvironmentData, size: int) -> EnvironmentData:
    """Items that are not trained: a reasoning-gym task makes item i from the number seed + i."""
    return training.model_copy(update={"seed": training.seed + training.size, "size": size})


def _file(session: Session, project_id: str, file_id: str | None, param: str) -> File:
    file = files.find(session, project_id, file_id) if file_id else None
    if file is None:
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(file_id)}. There is no such file; upload it with "
            f"POST /v1/files and purpose '{PURPOSES[0]}', and give its id.",
            param=param,
            code="file_not_found",
        )
    if file.purpose not in PURPOSES or file.rows is None:
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(file_id)} has the purpose '{file.purpose}'; it "
            f"should be '{PURPOSES[0]}'.",
            param=param,
        )
    return file


def _check_data(request: CreateJob, sources: _Sources) -> None:
    """Environments, grader, and whether the rows have what the grader reads."""
    if request.environment is not None:
        check_task(request.environment.task, request.environment.parameters, param="environment")
    if request.validation_environment is not None:
        other = request.validation_environment
        check_task(other.task, other.parameters, param="validation_environment")
    grader = request.method.reinforcement.grader
    check_grader(grader, GRADER_PARAM)
    for kind, data in (("training", sources.training), ("validation", sources.validation)):
        if data is not None:
            drawn = isinstance(data, EnvironmentData)
            name = (
                f"{kind}_file" if not drawn else {"training": "environment"}.get(kind, f"{kind}_environment")
            )
            check_item_fields(grader, data, param=name)


def _data(source: File | EnvironmentData) -> Data:
    return source if isinstance(source, EnvironmentData) else JsonlData(path=str(path_of(source.id)))


def _rows(source: File | EnvironmentData) -> int:
    return source.size if isinstance(source, EnvironmentData) else source.rows or 0


def _lock_files(session: Session, request: CreateJob) -> None:
    """The files are still there, and stay until the commit."""
    for param in ("training_file", "validation_file"):
        file_id = getattr(request, param)
        if file_id is None:
            continue
        query = select(File.id).where(File.id == file_id).with_for_update(read=True)
        if session.scalars(query).first() is None:
            raise BadRequest(
                f"Invalid value for '{param}': {abbreviated(file_id)} has just been deleted.",
                param=param,
                code="file_not_found",
            )


def _job(
    job_id: str,
    project_id: str,
    request: CreateJob,
    resolved: Resolved,
    seed: int,
    digest: str,
    idempotency_key: str | None,
) -> Job:
    return Job(
        id=job_id,
        project_id=project_id,
        idempotency_key=idempotency_key,
        request_sha256=digest,
        created_at=time.time(),
        status=JobStatus.VALIDATING_FILES.value,
        model=request.model,
        suffix=request.suffix or None,
        seed=seed,
        training_file=request.training_file,
        validation_file=request.validation_file,
        method=resolved.method,
        run_spec=resolved.run_spec.model_dump(mode="json"),
        user_metadata=request.metadata,
        integrations=[one.model_dump(mode="json") for one in request.integrations or ()] or None,
        priority=request.priority,
        result_files=[],
        step=0,
        total_steps=resolved.run_spec.total_steps,
        cancel_requested=False,
        pause_requested=False,
        attempt=0,
        not_before=0.0,
    )
