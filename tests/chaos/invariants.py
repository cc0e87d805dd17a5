"""What holds after every trial, whatever happened in it."""

import csv
import itertools
from collections import Counter
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.db import read_session
from app.core.tables import Checkpoint, Job, JobAttempt, JobEvent, Rollout
from app.series.repository import curves_of_job
from tests.chaos.system import System, until
from tests.chaos.workload import Sent
from trainer.spec.events import read_events
from trainer.spec.manifest import read_manifest

#: Clocks of one machine, read by several processes.
CLOCK = 0.01


def check(system: System, jobs: list[Sent], rollouts_a_step: int = 2) -> None:
    """Raises AssertionError with what does not hold."""
    with read_session(system.database) as session:
        for sent in jobs:
            _check_job(system, session, sent, rollouts_a_step)
    until(lambda: not system.trainers(), 10, f"trainers end: {system.trainers()}")
    until(lambda: not system.orphans(), 10, f"no orphan is left: {system.orphans()}")
    until(lambda: not system.open_transactions(), 10, "no transaction is left open")


def _check_job(system: System, session: Session, sent: Sent, rollouts_a_step: int) -> None:
    job = session.get(Job, sent.id)
    assert job is not None, f"{sent.id} was acknowledged and is gone"
    wanted = "cancelled" if sent.cancel_acknowledged else "succeeded"
    assert job.status == wanted, f"{sent.id} is {job.status}, not {wanted}: {job.error}; {sent}"
    assert job.lease_owner is None and job.lease_expires_at is None
    query = select(JobAttempt).where(JobAttempt.job_id == sent.id).order_by(JobAttempt.attempt)
    attempts = list(session.scalars(query))
    check_attempts(sent.id, attempts)
    _check_writers(system, sent, len(attempts))
    if wanted == "succeeded":
        _check_succeeded(system, session, job, sent, rollouts_a_step)
    _check_no_doubles(session, sent)


def check_attempts(job_id: str, attempts: list[JobAttempt]) -> None:
    """All of a job's attempts, in order: each has ended, and before the next one began."""
    assert [one.attempt for one in attempts] == list(range(1, len(attempts) + 1)), job_id
    for one in attempts:
        assert one.ended_at is not None and one.outcome and one.cause, (
            f"{job_id}: attempt {one.attempt} is open"
        )
    for one, other in itertools.pairwise(attempts):
        assert one.ended_at is not None and one.ended_at <= other.started_at + CLOCK, (
            f"{job_id}: attempts {one.attempt} and {other.attempt} overlap"
        )


def _check_writers(system: System, sent: Sent, attempts: int) -> None:
    """In the run's folder one trainer wrote after the other, never two at a time."""
    last, of = 0.0, 0
    for attempt in range(1, attempts + 1):
        path = system.runs / sent.id / f"events-{attempt}.jsonl"
        times = [event.time for event, _ in read_events(path)]
        if times:
            assert min(times) >= last - CLOCK, (
                f"{sent.id}: attempts {of} and {attempt} wrote at the same time"
            )
            last, of = max(times), attempt


def _check_succeeded(system: System, session: Session, job: Job, sent: Sent, rollouts_a_step: int) -> None:
    steps = list(range(1, sent.steps + 1))
    assert job.step == sent.steps and job.fine_tuned_model, sent.id
    curves = curves_of_job(session, job.id)
    for name in ("train/N/reward", "train/H/reward", "train/step_seconds"):
        told = curves[name].steps.tolist() if name in curves else []
        assert told == steps, f"{sent.id}: {name} has steps {told}"
    assert _metric_steps(session, job.id) == steps, (
        f"{sent.id}: metrics events of {_metric_steps(session, job.id)}"
    )
    rollouts = Counter(session.scalars(select(Rollout.step).where(Rollout.job_id == job.id)))
    assert rollouts == dict.fromkeys(steps, rollouts_a_step), f"{sent.id}: rollouts {rollouts}"
    checkpoint = session.scalars(
        select(Checkpoint).where(Checkpoint.job_id == job.id, Checkpoint.step == sent.steps)
    ).one_or_none()
    assert checkpoint is not None, f"{sent.id} has no final checkpoint"
    read_manifest(system.runs / job.id / "checkpoints" / f"step-{sent.steps}", verify=True)
    (file,) = job.result_files
    with (system.folder / "data" / "files" / file).open() as results:
        rows = [int(row["step"]) for row in csv.DictReader(results)]
    assert [step for step in rows if step] == steps, f"{sent.id}: its result file has steps {rows}"


def _metric_steps(session: Session, job_id: str) -> list[int]:
    query = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.type == "metrics")
    return sorted(data["step"] for data in session.scalars(query) if data and data["step"])


def _check_no_doubles(session: Session, sent: Sent) -> None:
    steps = Counter(_metric_steps(session, sent.id))
    assert not steps or max(steps.values()) == 1, f"{sent.id}: metrics told twice: {steps}"
    events: list[Any] = list(session.scalars(select(JobEvent.message).where(JobEvent.job_id == sent.id)))
    ends = [
        text for text in events if text.startswith(("The job has completed", "The job has been cancelled"))
    ]
    assert len(ends) == 1, f"{sent.id}: it ended {len(ends)} times: {ends}"
