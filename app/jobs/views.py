"""Jobs and events as the API shows them: OpenAI's fields, then ours."""

import time
from collections.abc import Sequence
from types import SimpleNamespace

from sqlalchemy.orm import Session

from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.tables import Job, JobEvent
from app.jobs.methods import settings_of
from app.jobs.repository import queue_positions
from trainer.spec.resources import Resources

#: The columns that a view shows as they are, or calculates with.
FACT_COLUMNS = [
    column for column in Job.__table__.columns if column.key not in ("method", "run_spec", "words")
]
#: What jobs have whose ``run_spec`` does not say.
_ONE_GPU = Resources().as_started().model_dump()
#: :data:`FACT_COLUMNS` and ``hyperparameters``, ``training_data``, ``validation_data``, ``resources`` as
#: attributes.
Facts = SimpleNamespace


def job_views(session: Session, jobs: Sequence[Job]) -> list[dict[str, object]]:
    """Job objects, in the order of ``jobs``."""
    places = queue_positions(session, jobs)
    return [{**view_without_method(_facts(job), places.get(job.id)), "method": job.method} for job in jobs]


def _facts(job: Job) -> Facts:
    """A job's columns; the large ones in the parts that are shown."""
    columns = {column.key: getattr(job, column.key) for column in FACT_COLUMNS}
    return SimpleNamespace(
        **columns,
        # A damaged row shows less than others, and does not keep them from being listed.
        hyperparameters=settings_of(job.method or {}).get("hyperparameters"),
        training_data=(job.run_spec or {}).get("training_data"),
        validation_data=(job.run_spec or {}).get("validation_data"),
        resources=(job.run_spec or {}).get("resources"),
    )


def view_without_method(job: Facts, queue_position: int | None) -> dict[str, object]:
    """The job object but for ``method``, by far its largest part, which the status route sends as stored."""
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": estimated_finish(job, time.time()),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "result_step": job.result_step,
        "result_reason": job.result_reason,
        "organization_id": get_settings().organization,
        "status": job.status,
        "error": job.error,
        "hyperparameters": {
            key: (job.hyperparameters or {}).get(key)
            for key in ("batch_size", "learning_rate_multiplier", "n_epochs")
        },
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": job.result_files or [],
        "trained_tokens": job.trained_tokens,
        "seed": job.seed,
        "integrations": job.integrations or [],
        "metadata": job.user_metadata,
        "name": job.name,
        "suffix": job.suffix,
        "note": job.note,
        "tags": job.tags or [],
        "environment": _environment(job.training_data),
        "validation_environment": _environment(job.validation_data),
        "started_at": _seconds(job.started_at),
        "attempt": job.attempt,
        "priority": job.priority,
        "resources": job.resources or _ONE_GPU,
        "disk_bytes": job.disk_bytes,
        "queue_position": queue_position,
        "progress": {"step": job.step, "total_steps": job.total_steps},
        "cancel_requested": bool(job.cancel_requested),
    }


def event_view(event: JobEvent) -> dict[str, object]:
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


def estimated_finish(job: Job | Facts, now: float) -> int | None:
    """When the job ends if the steps to come take as long as this attempt's; None while that is unknown."""
    first, first_at, last_at = job.clock_step, job.clock_at, job.stepped_at
    if job.status != JobStatus.RUNNING or first is None or first_at is None or last_at is None:
        return None
    if job.step <= first:
        return None
    pace = (last_at - first_at) / (job.step - first)
    return int(max(now, last_at + pace * (job.total_steps - job.step)))


def _environment(data: dict[str, object] | None) -> dict[str, object] | None:
    return data if data is not None and data.get("type") == "environment" else None


def _seconds(when: float | None) -> int | None:
    return None if when is None else int(when)
