"""How fast the API is: ``make bench-api``, or ``python -m benchmarks.api --database sqlite``.

Per database: a job's status with the key check against a bare FastAPI route on the same server (requests a
second, and the latency at half of that load), a metric series of 100,000 steps thinned to 1,000 points, the
ingest of metrics and the bytes of a point, and listing page 500 of 100,000 jobs against page 1. Everything is
on the loopback interface. Runs of the two routes alternate, and the ratio is of their medians.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, insert, text

from app.core.db import close_engine, get_engine, write_session
from app.core.migrate import upgrade_to_head
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, Job
from app.jobs.creation import create_job
from app.jobs.schemas import CreateJob
from app.keys.service import create_key
from app.series.repository import upsert_steps
from benchmarks.load.databases import wheel_postgresql
from benchmarks.load.paced import latencies
from benchmarks.load.servers import bare_server, our_api
from benchmarks.load.wrk import generator, throughput

CONNECTIONS = 16
STEPS = 100_000
POINTS = 1000
JOBS = 100_000
PAGE_SIZE = 20
ASKED = 30
INGEST_STEPS, INGEST_SERIES = 2000, 50


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=4, help="length of one run under load")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each route")
    parser.add_argument(
        "--only", choices=["status", "metrics", "listing"], help="one part; default all of them"
    )
    options = parser.parse_args()
    # There is no broker here, and none is needed: no job runs.
    logging.getLogger("app.core.queue").setLevel(logging.ERROR)
    print(f"load: {generator()}, {CONNECTIONS} connections; {os.cpu_count()} CPUs")
    print("| database | what | measured | target |\n|---|---|---|---|")
    for kind in ("sqlite", "postgresql") if options.database == "both" else (options.database,):
        with service(kind) as (folder, url):
            for what, measured, target in measure(options, kind, folder, url):
                print(f"| {kind} | {what} | {measured} | {target} |", flush=True)


@contextlib.contextmanager
def service(kind: str, given: str | None = None) -> Iterator[tuple[Path, str]]:
    """An empty, migrated database, and a data directory with a base model; this process's settings say so.

    ``given``: the URL of an empty database.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "models" / "tiny").mkdir(parents=True)
        (folder / "models" / "tiny" / "config.json").write_text("{}")
        own = given is None and kind == "postgresql"
        url = stack.enter_context(wheel_postgresql()) if own else given or f"sqlite:///{folder / 'bench.db'}"
        os.environ |= {"DATABASE_URL": url, "POLICYSPLIT_DATA_DIR": str(folder)}
        get_settings.cache_clear()
        get_engine.cache_clear()
        upgrade_to_head(url)
        yield folder, url
        close_engine(get_engine())


def measure(options: argparse.Namespace, kind: str, folder: Path, url: str) -> Iterator[tuple[str, str, str]]:
    """Rows of the table: what, measured, target."""
    job = make_job()
    secret = create_key("benchmark", DEFAULT_PROJECT)[1]
    headers = {"authorization": f"Bearer {secret}"}
    with our_api(folder, url) as (api, _):
        if options.only in (None, "status"):
            yield from measure_status(options, kind, f"{api}/v1/fine_tuning/jobs/{job}", headers)
        with httpx.Client(headers=headers, timeout=60) as client:
            if options.only in (None, "metrics"):
                yield from measure_metrics(client, f"{api}/v1/fine_tuning/jobs/{job}/metrics", job)
            if options.only in (None, "listing"):
                yield from measure_listing(client, f"{api}/v1/fine_tuning/jobs", job)


def make_job(steps: int = 10, status: str = "running") -> str:
    """A job as a user would make it; its id."""
    grader = {
        "type": "string_check",
        "name": "exact",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
        "operation": "eq",
    }
    body = {
        "model": "tiny",
        "environment": {"task": "chain_sum"},
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader, "budget": {"steps": steps}}},
        "metadata": {"team": "a"},
    }
    job = str(create_job(DEFAULT_PROJECT, CreateJob.model_validate(body), None)["id"])
    with write_session() as session:
        # Not queued: a place in the queue is another question.
        session.get_one(Job, job).status = status
    return job


def measure_status(
    options: argparse.Namespace, kind: str, url: str, headers: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    load: dict[str, Any] = {"seconds": options.seconds, "connections": CONNECTIONS}
    ours, bare = [], []
    with bare_server() as bare_url:
        for place, its_headers in ((url, headers), (bare_url, {})):
            throughput(place, its_headers, seconds=1, connections=CONNECTIONS)
        for _ in range(options.rounds):
            bare.append(throughput(bare_url, {}, **load))
            ours.append(throughput(url, headers, **load))
    mine, its = statistics.median(ours), statistics.median(bare)
    target = 30 if kind == "sqlite" else 15
    runs = ", ".join(f"{a / b:.0%}" for a, b in zip(ours, bare, strict=True))
    yield (
        "job status with key check, against a bare route",
        f"{mine:,.0f}/s of {its:,.0f}/s: {mine / its:.0%} (runs: {runs})",
        f"≥ {target} %",
    )
    taken = asyncio.run(
        latencies(url, headers, rate=mine / 2, seconds=options.seconds, connections=CONNECTIONS)
    )
    yield (
        f"job status at half of that load, {mine / 2:,.0f}/s",
        f"p50 {quantile(taken, 0.5):.1f} ms, p99 {quantile(taken, 0.99):.1f} ms",
        "p99 < 25 ms",
    )


def measure_metrics(client: httpx.Client, url: str, job: str) -> Iterator[tuple[str, str, str]]:
    size = database_bytes()
    began = time.perf_counter()
    for start in range(0, STEPS, 2500):
        with write_session() as session:
            steps = range(start + 1, start + 2501)
            upsert_steps(
                session, job, {step: {"train/N/reward": (step * 7919 % 1000) / 1000} for step in steps}
            )
    seconds = time.perf_counter() - began
    yield "ingest of one series", f"{STEPS / seconds:,.0f} points/s", "≥ 20,000 points/s"
    yield "a point on disk", f"{(database_bytes() - size) / STEPS:.0f} bytes", "≤ 30 bytes"

    query = {"name": "train/N/reward", "max_points": str(POINTS)}
    answer = client.get(url, params=query).json()["data"][0]
    assert answer["total_points"] == STEPS and len(answer["points"]) <= POINTS
    (taken,) = timed_in_turn(lambda: client.get(url, params=query).raise_for_status())
    yield f"{STEPS:,} steps thinned to {POINTS:,} points", shown(taken), "< 50 ms"

    names = [f"train/metric-{n}" for n in range(INGEST_SERIES)]
    began = time.perf_counter()
    for start in range(0, INGEST_STEPS, 100):
        with write_session() as session:
            steps = range(start + 1, start + 101)
            upsert_steps(session, job, {step: dict.fromkeys(names, step / 7) for step in steps})
    total = INGEST_STEPS * INGEST_SERIES
    rate = total / (time.perf_counter() - began)
    yield f"ingest of {INGEST_SERIES} series beside it", f"{rate:,.0f} points/s", "≥ 20,000 points/s"


def measure_listing(client: httpx.Client, url: str, job: str) -> Iterator[tuple[str, str, str]]:
    fill_with_jobs(get_engine(), job)
    first = {"limit": str(PAGE_SIZE)}
    # The last one of page 499; the newest of all is the template.
    far = first | {"after": f"ftjob-{JOBS - 499 * PAGE_SIZE + 1:06}"}
    found = client.get(url, params=far).json()
    assert len(found["data"]) == PAGE_SIZE
    near, away = timed_in_turn(
        lambda: client.get(url, params=first).raise_for_status(),
        lambda: client.get(url, params=far).raise_for_status(),
    )
    ratio = statistics.median(away) / statistics.median(near)
    yield (
        f"page 500 of {JOBS:,} jobs against page 1",
        f"{shown(away)} against {shown(near)}: {ratio:.2f}",
        "≈ 1",
    )


def fill_with_jobs(engine: Engine, template: str) -> None:
    """Finished jobs, all like ``template``, older than it."""
    with engine.begin() as connection:
        row = dict(connection.execute(Job.__table__.select().where(Job.id == template)).mappings().one())
        row |= {"status": "succeeded", "finished_at": 2.0}
        for start in range(0, JOBS, 1000):
            rows = [
                row | {"id": f"ftjob-{n:06}", "created_at": 1000.0 + n, "idempotency_key": None}
                for n in range(start, start + 1000)
            ]
            connection.execute(insert(Job), rows)
        connection.execute(text("ANALYZE"))


def database_bytes() -> int:
    """What the database takes on disk, its log left out.

    PostgreSQL's is measured after a vacuum, as it does by itself now and then: the room of rows whose points
    were packed is used again.
    """
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("VACUUM"))
            return connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return pages * connection.execute(text("PRAGMA page_size")).scalar_one()


def timed_in_turn(*actions: Callable[[], Any]) -> list[list[float]]:
    """Milliseconds of several calls of each, in turn, after one that does not count."""
    taken: list[list[float]] = [[] for _ in actions]
    for turn in range(ASKED + 1):
        for action, its in zip(actions, taken, strict=True):
            began = time.perf_counter()
            action()
            if turn:
                its.append((time.perf_counter() - began) * 1000)
    return taken


def shown(taken: list[float]) -> str:
    return f"median {statistics.median(taken):.1f} ms"


def quantile(taken: list[float], share: float) -> float:
    """Milliseconds."""
    return taken[min(len(taken) - 1, int(len(taken) * share))] * 1000


if __name__ == "__main__":
    main()
