"""How a large database does: ``make bench-size``, or ``python -m benchmarks.size --divide 10``.

Fills an empty database by SQL (``tests.fixtures.filled``), a tenth as much on SQLite, as a release of before
has it, and upgrades it while a worker goes on telling of its job. Then it tells of each route its time and
the plans of its queries, and of each pass in the background how long it took and how long a request for
``/v1/files`` had to wait meanwhile; a pass that is not through after ``--pass-seconds`` is stopped. Whoever
waits is a process of its own. PostgreSQL is that of the distribution where it is installed, in place of the
wheel's, which has no pg_trgm; ``--url`` names another server's maintenance database.
"""

import argparse
import contextlib
import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text

from app.core.db import get_engine, read_session
from app.core.migrate import alembic_config, upgrade_to_head
from app.core.settings import get_settings
from app.core.tables import DELETED_PROJECT, Checkpoint, Job, MetricPoint, Rollout, Table
from app.jobs.deletion import remove_deleted
from app.main import create_app
from benchmarks.api import service
from benchmarks.load.asking import Waits, asking, telling
from benchmarks.load.claims import claims
from benchmarks.load.databases import large_postgresql
from benchmarks.load.servers import our_api
from tests.fixtures.filled import ENDPOINT, Counts, fill, job_name, model_name
from tests.fixtures.plans import Plans
from worker.retention import Pauses, expire, pack_ended
from worker.shutdown import Shutdown

JOBS = "/v1/fine_tuning/jobs"
ASKED = 7
WORKERS, CLAIMS = 16, 1280
#: The revision that is upgraded from: on PostgreSQL before the first index that is made beside writers.
OLD = {"sqlite": "0017", "postgresql": "0009"}
#: How long the long reader of SQLite reads.
READ_SECONDS = 5.0
#: What a pass did, and how long requests waited meanwhile.
Told = tuple[str, Waits]


def routes(counts: Counts) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Path, query, and the target in ms."""
    queued, ended = job_name(counts.jobs - 2), job_name(0)
    yield "/v1/models", {}, 20
    yield "/v1/storage", {}, 20
    yield "/v1/files", {"purpose": "fine-tune"}, 20
    yield f"/v1/models/{model_name(8, 99)}", {}, 20
    yield JOBS, {}, 20
    yield JOBS, {"metadata[team]": "rare"}, 20
    yield JOBS, {"metadata[team]": "none"}, 20
    yield JOBS, {"status": "running"}, 20
    yield f"{JOBS}/{queued}", {}, 20
    yield f"{JOBS}/{ended}", {}, 20
    yield f"{JOBS}/{ended}/events", {}, 20
    yield f"{JOBS}/{ended}/rollouts", {"item": 16}, 100
    for words in ("answer", "gives 123456,", "nobody said this"):
        yield f"{JOBS}/{ended}/rollouts", {"search": words}, 100
    yield f"/v1/webhook_endpoints/{ENDPOINT}/deliveries", {}, 20
    yield "/v1/experiments", {}, 20


def main() -> None:
    """Measure and print a table for each database."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--divide", type=float, default=10, help="of the whole size, one part in so many")
    parser.add_argument("--url", help="a PostgreSQL server's maintenance database")
    parser.add_argument("--only-routes", action="store_true", help="no pass in the background")
    parser.add_argument("--pass-seconds", type=float, default=40, help="how long a pass may take")
    options = parser.parse_args()
    for name in ("app.core.queue", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for kind in ("postgresql", "sqlite") if options.database == "both" else (options.database,):
        began = time.perf_counter()
        _measure(kind, options)
        print(f"\n{kind} took {(time.perf_counter() - began) / 60:.1f} minutes in all")


def _measure(kind: str, options: argparse.Namespace) -> None:
    counts = Counts().divided(options.divide * (10 if kind == "sqlite" else 1))
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(large_postgresql(options.url)) if kind == "postgresql" else None
        folder, url = stack.enter_context(service(kind, url))
        if kind == "postgresql":
            # It takes long to keep while the table is filled, and comes back with the upgrade.
            with get_engine().begin() as connection:
                connection.exec_driver_sql("DROP INDEX IF EXISTS ix_rollouts_search")
        seconds = _seconds(lambda: fill(get_engine(), counts, unchecked=True))
        print(f"\n{kind}: {vars(counts)}; filled in {seconds:.0f} s\n", flush=True)
        print("| what | measured | target | how |\n|---|---|---|---|")
        print(_upgrade(kind, url, counts), flush=True)
        with our_api(folder, url) as (api, _), httpx.Client(base_url=api, timeout=300) as client:
            for row in measure_routes(client, counts):
                print(row, flush=True)
            if options.only_routes:
                return
            if kind == "sqlite":
                print(_long_reader(counts), flush=True)
            for row in measure_passes(client, counts, options.pass_seconds):
                print(row, flush=True)


def _upgrade(kind: str, url: str, counts: Counts) -> str:
    """SQLite has one writer, and an upgrade is one: nobody is measured beside it."""
    command.downgrade(alembic_config(url), OLD[kind])
    what = f"| upgrade from {OLD[kind]} with {counts.events:,} events |"
    if kind == "sqlite":
        return f"{what} {_seconds(lambda: upgrade_to_head(url)):.0f} s | | |"
    with telling(job_name(counts.jobs - counts.waiting - 1)) as waited:
        seconds = _seconds(lambda: upgrade_to_head(url))
    # As autovacuum leaves it soon after: indexes alone answer where the visibility of rows is known.
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    return f"{what} {seconds:.0f} s | an event waits < 1000 ms | waited {waited} |"


def measure_routes(client: httpx.Client, counts: Counts) -> Iterator[str]:
    """A line for each route, with the plans of its queries."""
    # Another one in this process, whose queries can be seen.
    with TestClient(create_app(), base_url="http://127.0.0.1", client=("127.0.0.1", 0)) as own:
        own.get("/v1/files")
        for path, query, target in routes(counts):
            times, status = [], 0
            for _ in range(ASKED):
                began = time.perf_counter()
                status = client.get(path, params=query).status_code
                times.append((time.perf_counter() - began) * 1000)
            with Plans(get_engine(), ()).noting() as plans:
                same = own.get(path, params=query).status_code
            assert same == status, f"{path}: {same} here, {status} there"
            what = path.removeprefix("/v1/") + (f" {query}" if query else "")
            how = f"{status}, worst {max(times):.0f} ms; {'; '.join(plans.summaries())}"
            yield f"| GET {what} | {statistics.median(times):.1f} ms | {target:.0f} ms | {how} |"


def _long_reader(counts: Counts) -> str:
    """What a writer waits beside a reader that has a transaction open all the time."""
    with telling(job_name(counts.jobs - counts.waiting - 1)) as waited, read_session() as session:
        until = time.monotonic() + READ_SECONDS
        while time.monotonic() < until:
            session.scalar(select(func.sum(func.length(Rollout.response))).where(Rollout.step < 500))
    return f"| a reader of {READ_SECONDS:g} s | | a writer waits < 100 ms | waited {waited} |"


def measure_passes(client: httpx.Client, counts: Counts, seconds: float) -> Iterator[str]:
    """A line for each pass, with how long a request waited meanwhile."""
    each = min(CLAIMS, counts.waiting // 2) // WORKERS
    ask = partial(asking, f"{client.base_url}/v1/files?limit=1")

    def nothing() -> Told:
        with ask() as waited:
            time.sleep(3.0)
        return "", waited

    def claim() -> Told:
        found, took, waited = claims(WORKERS, each, ask)
        return f"{found / took:.0f} claims/s, {each * WORKERS / max(1, found):.2f} tries each", waited

    def until_over(work: Callable[[Shutdown], object], table: type[Table]) -> Told:
        """How many rows of ``table`` a pass removed, and in what time, until it was over or was stopped."""
        # Counting takes longer than many a pass: nobody waits for that.
        stop, before = Shutdown(), _count(table)
        timer = threading.Timer(seconds, stop.request)
        with ask() as waited:
            timer.start()
            took = _seconds(lambda: work(stop))
            timer.cancel()
        removed = before - _count(table)
        rows = f"{removed:,} of {before:,} {table.__tablename__} in {took:.1f} s"
        return f"{rows}: {removed / took:,.0f}/s", waited

    def delete() -> Told:
        answered = 0.0

        def work(stop: Shutdown) -> None:
            nonlocal answered
            answered = _seconds(lambda: client.delete(f"{JOBS}/{job_name(0)}").raise_for_status())
            remove_deleted(Pauses(stop))

        rows, waited = until_over(work, Rollout)
        left = "" if _count(Job, Job.project_id == DELETED_PROJECT) else ", all of it"
        return f"answers in {answered * 1000:.0f} ms; {rows}{left}", waited

    def retain(what: str, table: type[Table]) -> Told:
        setattr(get_settings(), f"retain_{what}_days", 1.0)
        try:
            return until_over(lambda stop: expire(shutdown=stop), table)
        finally:
            setattr(get_settings(), f"retain_{what}_days", 0.0)

    for what, work in (
        ("nothing", nothing),
        (f"{WORKERS} processes claim", claim),
        ("packing points", lambda: until_over(lambda stop: pack_ended(Pauses(stop)), MetricPoint)),
        ("checkpoints expire", lambda: retain("checkpoints", Checkpoint)),
        (f"DELETE of a job of {counts.rollouts // 2:,} rollouts", delete),
        ("rollouts of other jobs expire", lambda: retain("rollouts", Rollout)),
    ):
        told, waited = work()
        yield f"| {what} | {told} | a request waits < 100 ms | waited {waited} |"


def _count(table: type[Table], *having: Any) -> int:
    with read_session() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SET LOCAL statement_timeout = 0"))
        return session.scalar(select(func.count()).select_from(table).where(*having)) or 0


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
