"""Creating a job: resolve → check → store → announce, each once and in this order.

Everything that could make it fail later is checked now; what is stored survives a power cut.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core import tracing
from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest
from app.core.idempotency import check_key, made_before, request_digest
from app.core.ids import new_job_id
from app.core.job_log import add_event
from app.core.job_status import JobStatus
from app.core.queue import announce
from app.core.tables import File, Job
from app.core.validation import abbreviated
from app.files.service import check_method
from app.graders.checks import check_grader
from app.graders.environments import check_task
from app.graders.forms import check_response_format
from app.graders.rows import GRADER_PARAM, check_item_fields
from app.jobs.naming import name_of, words_of
from app.jobs.quota import check_quota, check_size, planned_samples
from app.jobs.resolution import resolve
from app.jobs.resolved import Resolved
from app.jobs.resources import check_fleet, check_memory, on_resources
from app.jobs.schemas import CreateJob
from app.jobs.sources import Sources, data_of, find_sources, rows_of
from app.jobs.status import change_status
from app.jobs.views import job_views
from trainer.spec.data import EnvironmentData

_RESPONSE_FORMAT = "method.reinforcement.response_format"


@dataclass(frozen=True)
class _Sent:
    """A request as it came; ``digest`` tells whether another one with its key is the same."""

    project_id: str
    request: CreateJob
    idempotency_key: str | None
    digest: str


def create_job(project_id: str, request: CreateJob, idempotency_key: str | None) -> dict[str, object]:
    """Check a request and queue its job. When this returns, the job survives a power cut.

    The same key with the same request returns the job that the first one created.
    """
    check_key(idempotency_key)
    sent = _Sent(project_id, request, idempotency_key, request_digest(request))
    view = _earlier(sent)
    if view is None:
        job_id = new_job_id()
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        resolved = check_job(project_id, request, job_id=job_id, seed=seed)
        view = _store(sent, resolved, job_id, seed)
        announce(str(view["id"]))
    return view


def validate_job(project_id: str, request: CreateJob) -> dict[str, object]:
    """All checks of :func:`create_job`, and what would be trained; nothing is created."""
    resolved = check_job(project_id, request, seed=request.seed or 0)
    return {
        "object": "fine_tuning.job.validation",
        "valid": True,
        "total_steps": resolved.run_spec.total_steps,
        "method": resolved.method,
    }


def check_job(project_id: str, request: CreateJob, *, job_id: str = "ftjob-", seed: int = 0) -> Resolved:
    """What would run. Raises BadRequest for anything that makes the job unacceptable."""
    with read_session() as session:
        sources = find_sources(session, project_id, request)
        check_fleet(session, request.resources)
    _check_data(request, sources)
    resolved = resolve(
        request,
        job_id=job_id,
        model=sources.model,
        encoder=sources.encoder,
        training=data_of(sources.training),
        training_rows=rows_of(sources.training),
        validation=None if sources.validation is None else data_of(sources.validation),
        seed=seed,
    )
    check_size(resolved.run_spec)
    run = on_resources(request, resolved.run_spec)
    with read_session() as session:
        check_memory(session, run)
    return replace(resolved, run_spec=run)


def _check_data(request: CreateJob, sources: Sources) -> None:
    """Environments, grader, and whether the rows have what the method and the grader read."""
    if request.environment is not None:
        check_task(request.environment.task, request.environment.parameters, param="environment")
    if request.validation_environment is not None:
        other = request.validation_environment
        check_task(other.task, other.parameters, param="validation_environment")
    for param, data in (("training_file", sources.training), ("validation_file", sources.validation)):
        if isinstance(data, File):
            check_method(data, request.method.type, param)
    ours = request.method.reinforcement
    if ours is None:
        return
    check_grader(ours.grader, GRADER_PARAM)
    check_response_format(
        ours.response_format,
        ours.grader,
        forced=ours.rollout.force_response_format,
        param=_RESPONSE_FORMAT,
        grader_param=GRADER_PARAM,
    )
    for kind, data in (("training", sources.training), ("validation", sources.validation)):
        if data is not None:
            drawn = isinstance(data, EnvironmentData)
            name = (
                f"{kind}_file" if not drawn else {"training": "environment"}.get(kind, f"{kind}_environment")
            )
            check_item_fields(ours.grader, data, param=name)


def _store(sent: _Sent, resolved: Resolved, job_id: str, seed: int) -> dict[str, object]:
    """One commit: the files are locked, the quota checked, the job and its first events written."""
    job = _job(sent, resolved, job_id, seed)
    try:
        with write_session() as session:
            _lock_files(session, sent.request)
            check_quota(session, sent.project_id, resolved.run_spec)
            _insert(session, job, resolved.notes)
            record(session, "job.created", job.id, job.project_id, model=job.model, name=job.name)
            return job_views(session, [job])[0]
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(sent):
            return earlier
        raise


def _earlier(sent: _Sent) -> dict[str, object] | None:
    """The job that was created with the key; raises Conflict when its request was another."""
    with read_session() as session:
        job = made_before(session, Job, sent.project_id, sent.idempotency_key, sent.digest)
        return None if job is None else job_views(session, [job])[0]


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


def _insert(session: Session, job: Job, notes: Sequence[str]) -> None:
    session.add(job)
    session.flush()
    add_event(session, job.id, "info", "message", f"Created fine-tuning job: {job.id}")
    for note in notes:
        add_event(session, job.id, "info", "message", note)
    change_status(
        session, job, JobStatus.QUEUED, message="The files and the grader fit together; the job is queued."
    )


def _job(sent: _Sent, resolved: Resolved, job_id: str, seed: int) -> Job:
    request = sent.request
    run_spec = resolved.run_spec.model_dump(mode="json")
    resources = resolved.run_spec.resources
    job = Job(
        id=job_id,
        project_id=sent.project_id,
        idempotency_key=sent.idempotency_key,
        request_sha256=sent.digest,
        created_at=time.time(),
        status=JobStatus.VALIDATING_FILES.value,
        model=request.model,
        name=name_of(request.suffix, request.metadata, request.model, run_spec["training_data"]),
        suffix=request.suffix or None,
        seed=seed,
        training_file=request.training_file,
        validation_file=request.validation_file,
        method=resolved.method,
        run_spec=run_spec,
        user_metadata=request.metadata,
        integrations=[one.model_dump(mode="json") for one in request.integrations or ()] or None,
        priority=request.priority,
        wanted_gpus=resources.of_a_worker,
        least_gpus=resources.least_of_a_worker,
        result_files=[],
        step=0,
        total_steps=resolved.run_spec.total_steps,
        planned_samples=float(planned_samples(resolved.run_spec)),
        cancel_requested=False,
        pause_requested=False,
        attempt=0,
        not_before=0.0,
        traceparent=tracing.current(),
    )
    job.words = words_of(job)
    return job
