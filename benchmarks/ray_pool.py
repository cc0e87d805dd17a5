"""Many small jobs on a Ray cluster that several workers share, while one of its hosts is lost.

``python -m benchmarks.ray_pool``: real workers, their drivers and Ray's nodes, all on this machine; the
trainer is scripted (tests/worker/scripted_trainer.py). It tells how long the jobs took, which attempts the
lost host ended, and whether every job succeeded once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sqlalchemy import select

from app.core.db import get_engine, read_session
from app.core.migrate import upgrade_to_head
from app.core.settings import get_settings
from app.core.tables import Job, JobAttempt
from tests.fixtures.broker import RedisServer
from tests.fixtures.ray_nodes import RayNodes
from tests.fixtures.workers import SCRIPTED_TRAINER, Service

#: Of each job.
STEPS = 4
STEP_SECONDS = 1.0


@dataclass(frozen=True)
class Told:
    """What became of the jobs."""

    statuses: Counter[str]
    causes: Counter[str]
    """Of all attempts."""
    ended: Counter[str]
    """What those tell that did not finish."""
    again: int
    """Jobs with more than one attempt."""
    twice: list[str]
    """Jobs that succeeded in two attempts, or of which two attempts ran at a time."""
    seconds: float

    def __str__(self) -> str:
        told = "".join(f"\n{count} × {message}" for message, count in self.ended.items())
        return (
            f"{dict(self.statuses)} in {self.seconds:.0f} s; attempts: {dict(self.causes)}; "
            f"{self.again} jobs had more than one; twice: {self.twice or 'none'}{told}"
        )


def add_jobs(service: Service, number: int) -> list[str]:
    """So many jobs of one GPU of the cluster each."""
    service.script(default={"step_seconds": STEP_SECONDS, "checkpoint_every": 1})
    ray = {"gpus": 1, "launcher": "ray"}
    spec = {"total_steps": STEPS, "resources": ray}
    return [
        service.add_job(STEPS, run_spec=spec | {"run_id": f"pool-{n}"}, least_gpus=0) for n in range(number)
    ]


def lose(nodes: RayNodes, name: str, jobs: list[str], seconds: float) -> None:
    """Take a host away once a run is under way on it."""
    deadline = time.monotonic() + seconds
    while not any(_is_on(name, job) for job in jobs):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no job was seen on {name}")
        time.sleep(0.1)
    nodes.remove(name)


def wait(jobs: list[str], began: float, seconds: float) -> Told:
    """Until all have ended, or so long."""
    deadline = time.monotonic() + seconds
    while _ended(jobs) < len(jobs) and time.monotonic() < deadline:
        time.sleep(0.5)
    with read_session() as session:
        statuses = session.execute(select(Job.id, Job.status).where(Job.id.in_(jobs))).all()
        attempts = session.scalars(
            select(JobAttempt).where(JobAttempt.job_id.in_(jobs)).order_by(JobAttempt.attempt)
        ).all()
    by_job: dict[str, list[JobAttempt]] = {job: [] for job in jobs}
    for attempt in attempts:
        by_job[attempt.job_id].append(attempt)
    return Told(
        Counter(status for _, status in statuses),
        Counter(attempt.cause or "none" for attempt in attempts),
        Counter(attempt.message or "nothing" for attempt in attempts if attempt.cause != "finished"),
        sum(len(its) > 1 for its in by_job.values()),
        [job for job, its in by_job.items() if _is_twice(its)],
        time.monotonic() - began,
    )


def _is_twice(attempts: list[JobAttempt]) -> bool:
    succeeded = sum(attempt.outcome == "succeeded" for attempt in attempts)
    overlap = any(
        earlier.ended_at is None or later.started_at < earlier.ended_at
        for earlier, later in pairwise(attempts)
    )
    return succeeded > 1 or overlap


def _ended(jobs: list[str]) -> int:
    with read_session() as session:
        query = select(Job.id).where(Job.id.in_(jobs), Job.status.in_(("succeeded", "failed", "cancelled")))
        return len(session.scalars(query).all())


def _is_on(name: str, job: str) -> bool:
    """Whether a run of the job is under way on the host, as its events say."""
    newest = max((get_settings().runs_dir / job).glob("events-*.jsonl"), default=None)
    text = "" if newest is None else newest.read_text()
    return f"({name}): 0" in text and '"type":"started"' in text and '"type":"finished"' not in text


def main() -> None:
    """Run and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2, help="each with six slots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        redis = RedisServer(folder)
        redis.start()
        nodes = RayNodes()
        os.environ |= environment(folder, nodes) | {
            "POLICYSPLIT_DATABASE_URL": f"sqlite:///{folder / 'jobs.db'}",
            "POLICYSPLIT_BROKER_URL": redis.url,
        }
        get_settings.cache_clear()
        get_engine.cache_clear()
        upgrade_to_head(os.environ["POLICYSPLIT_DATABASE_URL"])
        get_settings().files_dir.mkdir(parents=True)
        jobs = add_jobs(Service(folder / "script.json"), options.jobs)
        with (folder / "workers.log").open("wb") as log:
            command = [sys.executable, "-m", "worker"]
            workers = [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(options.workers)]
        try:
            began = time.monotonic()
            lose(nodes, "two", jobs, 3600)
            print(f"node two was lost after {time.monotonic() - began:.0f} s", flush=True)
            print(wait(jobs, began, 3600))
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
            nodes.end()
            redis.stop()


def environment(folder: Path, nodes: RayNodes) -> dict[str, str]:
    """A worker's, with the scripted trainer on the cluster's CPUs."""
    trainer = [sys.executable, str(SCRIPTED_TRAINER), "--script", str(folder / "script.json")]
    return nodes.environment | {
        "POLICYSPLIT_DATA_DIR": str(folder / "data"),
        "POLICYSPLIT_RAY_DEVICE": "cpu",
        "POLICYSPLIT_WORKER_SLOTS": "6",
        "POLICYSPLIT_TRAINER_COMMAND": json.dumps(trainer),
        "POLICYSPLIT_RETRY_BACKOFF_SECONDS": "0",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }


if __name__ == "__main__":
    main()
