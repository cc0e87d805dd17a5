"""Limits on the total of a project's unfinished jobs."""

from sqlalchemy import BigInteger, Float, cast, func, select
from sqlalchemy.orm import Session

from app.accounting.limits import check_gpu_hours, check_storage
from app.core.errors import BadRequest, Forbidden
from app.core.settings import get_settings
from app.core.tables import Job, Project
from app.core.unfinished import unfinished
from trainer.spec.run import RunSpec
from trainer.spec.taught import Taught


def check_size(run: RunSpec) -> None:
    """Raise BadRequest for a job that could never be accepted, whatever else runs."""
    settings = get_settings()
    for what, wanted, most, name in (
        ("steps", run.total_steps, settings.project_max_steps, "PROJECT_MAX_STEPS"),
        ("samples", planned_samples(run), settings.project_max_samples, "PROJECT_MAX_SAMPLES"),
    ):
        if most and wanted > most:
            raise BadRequest(
                f"The job has {wanted} {what}, more than the limit of {most} for a project. The operator "
                f"can change it with POLICYSPLIT_{name}.",
                param="method",
                code="quota_exceeded",
            )


def check_quota(session: Session, project_id: str, run: RunSpec) -> None:
    """Raise Forbidden if the job would exceed the quota. Called in the transaction that adds it."""
    # Kept, so that the session reads it only once.
    project = session.get_one(Project, project_id)
    check_gpu_hours(session, project_id)
    check_storage(session, project_id)
    settings = get_settings()
    of_project = ", or that of the project with POST /v1/projects/{project_id}"
    # Of the settings 0 is any number; of the project's own it is none at all, as of its other limits.
    most_jobs = settings.project_max_jobs or None if project.max_jobs is None else project.max_jobs
    rollout = Job.run_spec["rollout"]
    # A sum of large numbers: exact enough as a float, and beyond what an integer of the database holds.
    of_spec = cast(Job.total_steps, Float) * (
        cast(rollout["prompts_per_step"].as_integer(), Float)
        * cast(rollout["samples_per_prompt"].as_integer(), Float)
    )
    samples = func.coalesce(Job.planned_samples, of_spec)
    query = select(func.count(), func.sum(cast(Job.total_steps, BigInteger)), func.sum(samples)).where(
        Job.project_id == project_id, *unfinished()
    )
    jobs, steps, sampled = session.execute(query).one()
    for what, planned, added, most, name in (
        ("jobs", jobs, 1, most_jobs, "PROJECT_MAX_JOBS"),
        ("steps", int(steps or 0), run.total_steps, settings.project_max_steps or None, "PROJECT_MAX_STEPS"),
        (
            "samples",
            int(sampled or 0),
            planned_samples(run),
            settings.project_max_samples or None,
            "PROJECT_MAX_SAMPLES",
        ),
    ):
        if most is not None and planned + added > most:
            raise Forbidden(
                f"The project's unfinished jobs have {planned} {what}; {added} more would exceed the "
                f"limit of {most}. Wait for some to end, or cancel them; the operator can change the "
                f"limit with POLICYSPLIT_{name}{of_project if what == 'jobs' else ''}.",
                code="quota_exceeded",
            )


def planned_samples(run: RunSpec) -> int:
    """How many responses the run samples in training: none where it learns from rows."""
    if isinstance(run.algorithm, Taught):
        return 0
    return run.total_steps * run.rollout.prompts_per_step * run.rollout.samples_per_prompt
