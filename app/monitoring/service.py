"""The queue, the workers and the jobs that run, as the database has them: every API tells the same."""

import time
from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.db import read_session
from app.core.fleet import blocks
from app.core.job_status import HELD, TERMINAL, JobStatus
from app.core.live_workers import status_of
from app.core.tables import (
    NO_REWARD,
    InferenceWorker,
    Job,
    JobAttempt,
    JobReward,
    TrainingWorker,
    Usage,
)
from app.jobs.order import waiting_by_project

_OPEN = [status.value for status in JobStatus if status not in TERMINAL]
_HELD = [status.value for status in HELD]


class ServiceCollector(Collector):
    """Reads the database once a scrape; it asks for nothing that grows with the number of ended jobs."""

    def collect(self) -> Iterable[Metric]:
        """The metrics, each with its samples."""
        with read_session() as session:
            return [*_jobs(session), *_workers(session), *_running(session)]


def _jobs(session: Session) -> Iterable[Metric]:
    now = time.time()
    jobs = GaugeMetricFamily(
        "policysplit_jobs", "Unfinished jobs by project and status", labels=["project", "status"]
    )
    counts = (
        select(Job.project_id, Job.status, func.count())
        .where(Job.status.in_(_OPEN))
        .group_by(Job.project_id, Job.status)
    )
    for project_id, status, count in session.execute(counts):
        jobs.add_metric([project_id, status], count)
    waits = GaugeMetricFamily(
        "policysplit_queue_oldest_seconds",
        "How long a project's oldest ready job has waited for its turn",
        labels=["project"],
    )
    for row in session.execute(waiting_by_project(now)):
        waits.add_metric([row.project_id], max(0.0, now - row.oldest) if row.waiting else 0.0)
    return jobs, waits


def _workers(session: Session) -> Iterable[Metric]:
    workers = GaugeMetricFamily(
        "policysplit_workers",
        "Workers by type and whether they are heard from",
        labels=["type", "status"],
    )
    slots = GaugeMetricFamily(
        "policysplit_slots", "Jobs a worker can run at a time", labels=["worker", "host"]
    )
    taken = GaugeMetricFamily(
        "policysplit_slots_taken",
        "Slots its jobs occupy; a job of several GPUs occupies several",
        labels=["worker", "host"],
    )
    gpus = GaugeMetricFamily("policysplit_gpus", "GPUs of a worker", labels=["worker", "host", "type"])
    loaded = GaugeMetricFamily(
        "policysplit_models_loaded",
        "Models an inference worker has loaded",
        labels=["worker", "host"],
    )
    active = GaugeMetricFamily(
        "policysplit_requests_at_engines",
        "Requests an inference worker is answering",
        labels=["worker", "host"],
    )
    free = {one.worker.id: one.free_slots for one in blocks(session)}
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for row in session.scalars(select(TrainingWorker)):
        status = status_of(row)
        seen["training", status] += 1
        if status != "lost":
            slots.add_metric([row.id, row.host], row.slots)
            taken.add_metric([row.id, row.host], row.slots - free.get(row.id, row.slots))
            gpus.add_metric([row.id, row.host, "training"], len(row.gpus))
    for row in session.scalars(select(InferenceWorker)):
        status = status_of(row)
        seen["inference", status] += 1
        if status != "lost":
            gpus.add_metric([row.id, row.host, "inference"], len(row.gpus))
            loaded.add_metric([row.id, row.host], len(row.loaded))
            active.add_metric([row.id, row.host], row.active)
    # Also of those that there are none of: an alert compares with 0, and not with nothing.
    for kind in (("training", "online"), ("training", "draining"), ("inference", "online")):
        seen.setdefault(kind, 0)
    for (kind, status), count in sorted(seen.items()):
        workers.add_metric([kind, status], count)
    return workers, slots, taken, gpus, loaded, active


def _running(session: Session) -> Iterable[Metric]:
    labels = ["project", "job"]
    step = GaugeMetricFamily("policysplit_job_step", "Current step of a running job", labels=labels)
    steps = GaugeMetricFamily("policysplit_job_steps", "Total steps of a running job", labels=labels)
    pace = GaugeMetricFamily(
        "policysplit_job_step_seconds", "Seconds per step, mean over the current attempt", labels=labels
    )
    silent = GaugeMetricFamily(
        "policysplit_job_silent_seconds",
        "Seconds since the latest step of the current attempt",
        labels=labels,
    )
    tokens = CounterMetricFamily("policysplit_job_trained_tokens", "Tokens trained on", labels=labels)
    reward = GaugeMetricFamily(
        "policysplit_job_reward", "Latest mean training reward by mode", labels=[*labels, "mode"]
    )
    attempts = GaugeMetricFamily("policysplit_job_attempts", "Attempts so far", labels=labels)
    # What has been counted as use, and what attempts have told since. The job's own number is of its end.
    counted = select(func.coalesce(func.sum(Usage.trained_tokens), 0)).where(Usage.job_id == Job.id)
    since = select(func.coalesce(func.sum(JobAttempt.uncounted_trained), 0)).where(
        JobAttempt.job_id == Job.id
    )
    query = (
        select(
            Job.id,
            Job.project_id,
            Job.step,
            Job.total_steps,
            Job.attempt,
            (counted.scalar_subquery() + since.scalar_subquery()).label("trained_tokens"),
            Job.clock_step,
            Job.clock_at,
            Job.stepped_at,
            JobReward.normal,
            JobReward.high_entropy,
        )
        .outerjoin(JobReward, JobReward.job_id == Job.id)
        .where(Job.status.in_(_HELD))
    )
    now = time.time()
    for row in session.execute(query):
        its = [row.project_id, row.id]
        step.add_metric(its, row.step)
        steps.add_metric(its, row.total_steps)
        attempts.add_metric(its, row.attempt)
        tokens.add_metric(its, float(row.trained_tokens))
        if row.clock_at is not None and row.stepped_at is not None:
            silent.add_metric(its, max(0.0, now - row.stepped_at))
            if row.step > row.clock_step:
                pace.add_metric(its, (row.stepped_at - row.clock_at) / (row.step - row.clock_step))
        for mode, value in (("normal", row.normal), ("high-entropy", row.high_entropy)):
            if value is not None and value > NO_REWARD:
                reward.add_metric([*its, mode], value)
    return step, steps, pace, silent, tokens, reward, attempts
