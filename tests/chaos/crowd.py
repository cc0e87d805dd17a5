"""Many short jobs for many workers: none lost, none done twice, and how fast.

    python -m tests.chaos.crowd --jobs 2000 --workers 8 --apis 3

One project sends most of the jobs at first, three others a few after it: fair order means that these do not
wait until the crowd is done. In the middle a worker and an API are killed. At last jobs come one by one, to
see how long one waits when a slot is free.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from sqlalchemy import func, select

from app.core.db import read_session, write_session
from app.core.ids import new_key_id, new_project_id
from app.core.tables import ApiKey, Job, JobAttempt, JobEvent, Project
from app.keys.secret import digest_of, hint_of, new_secret
from app.series.repository import curves_of_job
from tests.chaos import invariants
from tests.chaos.system import Pair, System, clean_up_on_sigterm, running_system, until
from tests.chaos.workload import ROWS, job_body
from tests.fixtures.databases import postgres_server
from tests.fixtures.models import build_tiny_model

QUICK_TRAINER = Path(__file__).with_name("quick_trainer.py")
STEPS = 3
SENDERS = 12


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crowd", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--apis", type=int, default=3)
    parser.add_argument("--pair", choices=["embedded", "external", "both"], default="both")
    parser.add_argument("--record", type=Path, help="a JSON line a pair is appended to this file")
    options = parser.parse_args()
    clean_up_on_sigterm()
    pairs: list[Pair] = ["embedded", "external"] if options.pair == "both" else [options.pair]
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_server()) if "external" in pairs else None
        for pair in pairs:
            command = json.dumps([sys.executable, "-S", "-E", str(QUICK_TRAINER)])
            with running_system(
                pair,
                postgres=postgres,
                apis=options.apis,
                workers=options.workers,
                small_disk=False,
                POLICYSPLIT_TRAINER_COMMAND=command,
                POLICYSPLIT_LEASE_SECONDS="20",
                POLICYSPLIT_HEARTBEAT_SECONDS="4",
            ) as system:
                build_tiny_model(system.model)
                line = run(system, options.jobs)
            print(json.dumps(line), flush=True)
            if options.record:
                with options.record.open("a") as record:
                    record.write(json.dumps(line) + "\n")
    return 0


def run(system: System, jobs: int) -> dict[str, object]:
    """Send the jobs, wait, and check all; the figures."""
    keys = [_key(system, name) for name in ("crowd", "one", "two", "three")]
    few = jobs // 20
    plan = [keys[0]] * (jobs - 3 * few) + [key for key in keys[1:] for _ in range(few)]
    files = {key: _upload(system, key) for key in keys}
    began = time.time()
    with ThreadPoolExecutor(SENDERS) as pool:
        ids = list(pool.map(lambda n: _send(system, plan[n], files[plan[n]], f"job-{n}", n), range(jobs)))
    sent = time.time() - began
    assert len(set(ids)) == jobs, "two acknowledged jobs have one id"
    until(lambda: _finished(system) >= jobs // 2, 3600, "half of the jobs are done")
    system.signal("worker-0", signal.SIGKILL)
    system.signal("api-0", signal.SIGKILL)
    system.start()
    until(lambda: _finished(system) >= jobs, 3600, "all jobs are done")
    seconds = time.time() - began
    counted = _check(system, ids)
    until(lambda: not system.orphans(), 30, f"no orphan: {system.orphans()}")
    until(lambda: not system.open_transactions(), 10, "no transaction is left open")
    return {
        "pair": system.pair,
        "jobs": jobs,
        **counted,
        "send_seconds": round(sent, 1),
        "seconds": round(seconds, 1),
        "jobs_per_second": round(jobs / seconds, 1),
        **_fairness(system, few),
        **_latency(system, keys[1], files[keys[1]]),
    }


def _key(system: System, name: str) -> str:
    """A key of a new project."""
    secret = new_secret()
    with write_session(system.database) as session:
        project = Project(id=new_project_id(), name=name, created_at=time.time())
        session.add(project)
        session.flush()
        session.add(
            ApiKey(
                id=new_key_id(),
                project_id=project.id,
                name=name,
                sha256=digest_of(secret),
                hint=hint_of(secret),
                created_at=time.time(),
            )
        )
    return secret


def _request(system: System, key: str, path: str, turn: int, **options: object) -> dict[str, object]:
    apis = [name for name in system.names if name.startswith("api")]
    headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}  # type: ignore[dict-item]
    for attempt in range(100):
        url = f"{system.url(apis[(turn + attempt) % len(apis)])}/v1{path}"
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(url, headers=headers, timeout=60, **options)  # type: ignore[arg-type]
            if answer.status_code == 200:
                return answer.json()
            assert answer.status_code in (401, 500, 503), answer.text  # 401: the key is seconds old
        time.sleep(0.1)
    raise AssertionError(f"{path} was not answered")


def _upload(system: System, key: str) -> str:
    files = {"file": ("train.jsonl", ROWS.encode())}
    return str(_request(system, key, "/files", 0, files=files, data={"purpose": "fine-tune"})["id"])


def _send(system: System, key: str, file: str, label: str, turn: int) -> str:
    headers = {"Idempotency-Key": label}
    body = job_body(file, STEPS)
    return str(_request(system, key, "/fine_tuning/jobs", turn, json=body, headers=headers)["id"])


def _finished(system: System) -> int:
    time.sleep(0.5)
    with read_session(system.database) as session:
        return session.scalar(select(func.count()).where(Job.finished_at.is_not(None))) or 0


def _check(system: System, ids: list[str]) -> dict[str, object]:
    """Zero lost, zero done twice; the numbers that say so."""
    with read_session(system.database) as session:
        statuses = dict(session.execute(select(Job.id, Job.status)).all())
        assert Counter(statuses[job_id] for job_id in ids) == {"succeeded": len(ids)}
        ended = select(JobAttempt.job_id).where(JobAttempt.outcome == "succeeded")
        assert sorted(session.scalars(ended)) == sorted(ids), "each job succeeded once"
        attempts = session.scalar(select(func.count()).select_from(JobAttempt)) or 0
        for job_id in ids:
            curve = curves_of_job(session, job_id, ["train/N/reward"])["train/N/reward"]
            assert curve.steps.tolist() == list(range(1, STEPS + 1)), job_id
        told = session.execute(
            select(JobEvent.job_id, func.count()).where(JobEvent.type == "metrics").group_by(JobEvent.job_id)
        )
        assert dict(told.all()) == dict.fromkeys(ids, STEPS)
        by_job: dict[str, list[JobAttempt]] = {}
        for attempt in session.scalars(select(JobAttempt).order_by(JobAttempt.attempt)):
            by_job.setdefault(attempt.job_id, []).append(attempt)
    for job_id, own in by_job.items():
        invariants.check_attempts(job_id, own)
    return {"lost": 0, "doubled": 0, "attempts": attempts}


def _fairness(system: System, few: int) -> dict[str, object]:
    """When the small projects were done, as a share of the time that the crowd took."""
    with read_session(system.database) as session:
        rows = session.execute(
            select(Project.name, func.min(Job.created_at), func.max(Job.finished_at), func.count())
            .join(Job, Job.project_id == Project.id)
            .group_by(Project.name)
        ).all()
    spans = {name: (first, last) for name, first, last, _ in rows if first is not None and last is not None}
    start, end = spans["crowd"]
    small = [spans[name][1] - spans[name][0] for name in ("one", "two", "three") if name in spans]
    return {"small_projects_took": round(max(small, default=0.0) / (end - start), 2)} if few else {}


def _latency(system: System, key: str, file: str, jobs: int = 40) -> dict[str, object]:
    """From a job's creation to its claim while a slot is free."""
    ids = []
    for number in range(jobs):
        ids.append(_send(system, key, file, f"single-{number}-{os.getpid()}", number))
        time.sleep(0.3)
    until(lambda: _done(system, ids), 120, "single jobs are done")
    with read_session(system.database) as session:
        waits = [
            start - created
            for created, start in session.execute(
                select(Job.created_at, Job.started_at).where(Job.id.in_(ids))
            )
            if start is not None
        ]
    ordered = sorted(waits)
    return {
        "queue_latency_p50": round(statistics.median(ordered), 3),
        "queue_latency_p95": round(ordered[int(0.95 * len(ordered))], 3),
    }


def _done(system: System, ids: list[str]) -> bool:
    with read_session(system.database) as session:
        query = select(func.count()).where(Job.id.in_(ids), Job.finished_at.is_not(None))
        return session.scalar(query) == len(ids)


if __name__ == "__main__":
    sys.exit(main())
