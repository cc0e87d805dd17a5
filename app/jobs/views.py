"""Jobs and events as the API shows them: OpenAI's fields, then ours."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.jobs.repository import queue_positions
from app.jobs.status import JobStatus
from app.settings import get_settings
from app.tables import Job, JobEvent


def job_views(session: Session, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Job objects, in the order of ``jobs``."""
    places = queue_positions(session, [job.id for job in jobs if job.status == JobStatus.QUEUED])
    return [_job_view(job, places.get(job.id)) for job in jobs]


def _job_view(job: Job, queue_position: int | None) -> dict[str, Any]:
    hyperparameters = job.method["reinforcement"]["hyperparameters"]
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": _estimated_finish(job, time.time()),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": get_settings().organization,
        "status": job.status,
        "error": job.error,
        "hyperparameters": {
            key: hyperparameters[key] for key in ("batch_size", "learning_rate_multiplier", "n_epochs")
        },
        "method": job.method,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": job.result_files,
        "trained_tokens": job.trained_tokens,
        "seed": job.seed,
        "integrations": [],
        "metadata": job.user_metadata,
        "suffix": job.suffix,
        "environment": _environment(job.run_spec["training_data"]),
        "validation_environment": _environment(job.run_spec.get("validation_data")),
        "started_at": _seconds(job.started_at),
        "attempt": job.attempt,
        "queue_position": queue_position,
        "progress": {"step": job.step, "total_steps": job.total_steps},
        "cancel_requested": job.cancel_requested,
    }


def event_view(event: JobEvent) -> dict[str, Any]:
    """An event object."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data,
    }


def _estimated_finish(job: Job, now: float) -> int | None:
    """When the job ends if the steps to come take as long as those done; None before the first."""
    if job.status != JobStatus.RUNNING or job.started_at is None or not job.step:
        return None
    elapsed = now - job.started_at
    return int(job.started_at + elapsed * job.total_steps / job.step)


def _environment(data: dict[str, Any] | None) -> dict[str, Any] | None:
    return data if data is not None and data["type"] == "environment" else None


def _seconds(when: float | None) -> int | None:
    return None if when is None else int(when)
