"""How many running jobs one control plane keeps up with: ``make bench-capacity``.

A fleet on this host (``benchmarks.load.fleet``): trainers that do a step a second, and the workers' own
code that relays 60 metrics and 64 rollouts a step to PostgreSQL, beside the API, which pages read, and a
Redis with the wake-up messages. For each number of jobs it tells which share of them keeps up, what every
part takes of the processors and of the disk, and what that is a day; and then the same of a step, from which
docs/guides/capacity.md calculates. PostgreSQL is that of the distribution where there is one (with the index
of rollouts' texts), else the wheel's; it syncs to the disk.

The trainers' event files lie in memory, for in a fleet they are on other hosts; so are the workers, whose
part of the processors is told by itself.
"""

import argparse
import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import select, text

from app.core.db import get_engine, read_session
from app.core.settings import get_settings
from app.core.tables import Job
from benchmarks.api import make_job, service
from benchmarks.load.asking import Waits, asking
from benchmarks.load.databases import large_postgresql
from benchmarks.load.fleet import Shape, fleet
from benchmarks.load.servers import our_api
from tests.fixtures.broker import RedisServer
from tests.fixtures.databases import installed_postgres

#: Until all supervisors are connected and the first steps are through.
SETTLE_SECONDS = 5.0
#: A job keeps up whose rows are no more steps behind its trainer.
BEHIND = 2
DAY = 86_400


@dataclass(frozen=True)
class Measured:
    """What a number of jobs came to, in a second unless said otherwise; processors by part, in cores."""

    jobs: int
    told: float
    relayed: float
    keeps_up: float
    behind: list[int]
    cores: dict[str, float]
    log_bytes: float
    table_bytes: float
    disk_bytes: float
    disk_waits: float
    waited: Waits

    def row(self) -> str:
        """As a line of the table."""
        cores = " / ".join(f"{value:.2f}" for value in self.cores.values())
        return (
            f"| {self.jobs:,} | {self.relayed:.0f} of {self.told:.0f} | {self.keeps_up:.0%} "
            f"| {statistics.median(self.behind):.0f}, {max(self.behind)} | {cores} "
            f"| {self.disk_waits:.2f} "
            f"| {self.log_bytes / 1e6:.1f} / {self.table_bytes / 1e6:.1f} / {self.disk_bytes / 1e6:.1f} "
            f"| {self.table_bytes * DAY / 1e9:,.0f} | {self.waited} |"
        )

    def of_a_step(self) -> str:
        """What one step takes of each part."""
        parts = [f"{part} {1000 * value / self.relayed:.1f} ms" for part, value in self.cores.items()]
        sizes = (
            f"{self.log_bytes / self.relayed / 1e3:.0f} KB, {self.table_bytes / self.relayed / 1e3:.0f} KB"
        )
        return f"A step of {self.jobs:,} jobs: {', '.join(parts)} of a core; log and tables {sizes}."


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", default=[10, 25, 50, 100, 250, 500, 1000])
    parser.add_argument("--workers", type=int, default=2, help="processes that relay")
    parser.add_argument("--apis", type=int, default=1, help="processes of the API, with a reader each")
    parser.add_argument("--seconds", type=float, default=15, help="how long is measured")
    parser.add_argument("--rollouts", type=int, default=64, help="of a step")
    parser.add_argument("--metrics", type=int, default=60, help="of a step")
    parser.add_argument("--tokens", type=int, default=32, help="of a response")
    parser.add_argument("--step-rollouts", type=int, default=0, help="POLICYSPLIT_STEP_ROLLOUTS")
    parser.add_argument("--no-text-index", action="store_true", help="drop the index of rollouts' texts")
    parser.add_argument("--wheel", action="store_true", help="the wheel's PostgreSQL, whatever is installed")
    options = parser.parse_args()
    for name in ("app.core.queue", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(
        f"{os.cpu_count()} cores; {options.workers} workers, {options.apis} APIs; PostgreSQL of the "
        f"{'wheel' if options.wheel or installed_postgres() is None else 'distribution'}"
    )
    print(
        "| jobs | steps/s relayed | keep up | behind: median, worst | cores: PostgreSQL / workers / API / "
        "trainers | wait for the disk | log / tables / disk, MB/s | GB a day | a request waits |\n"
        f"|{'---|' * 9}"
    )
    for jobs in options.jobs:
        measured = measure(jobs, options)
        print(measured.row(), flush=True)
        print(measured.of_a_step(), flush=True)


def measure(jobs: int, options: argparse.Namespace) -> Measured:
    """``jobs`` of them on an empty database."""
    shape = Shape(options.metrics, options.rollouts, options.tokens)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(large_postgresql(wheel=options.wheel, max_connections="300"))
        _settings(stack, options.step_rollouts)
        folder, url = stack.enter_context(service("postgresql", url))
        if options.no_text_index:
            with get_engine().begin() as connection:
                connection.execute(text("DROP INDEX IF EXISTS ix_rollouts_search"))
        runs = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        get_settings().runs_dir.symlink_to(runs, target_is_directory=True)
        ids = [make_job(shape.total_steps, "queued") for _ in range(jobs)]
        apis = [stack.enter_context(our_api(folder, url)) for _ in range(options.apis)]
        running = stack.enter_context(fleet(ids, runs, shape, options.workers))
        waits = [stack.enter_context(asking(f"{api}/v1/fine_tuning/jobs?limit=20")) for api, _ in apis]
        time.sleep(SETTLE_SECONDS)
        parts = {
            "PostgreSQL": [_server_pid()],
            "workers": running.workers,
            "API": [pid for _, pid in apis],
            "trainers": [running.trainers],
        }
        before, told, began = _state(), list(running.steps), time.monotonic()
        used = {part: _seconds(pids) for part, pids in parts.items()}
        time.sleep(options.seconds)
        then = {part: _seconds(pids) for part, pids in parts.items()}
        told_then, after = list(running.steps), _state()
        seconds = time.monotonic() - began
        behind = [said - after.steps.get(job, 0) for job, said in zip(running.jobs, told_then, strict=True)]
        return Measured(
            jobs=jobs,
            told=(sum(told_then) - sum(told)) / seconds,
            relayed=(sum(after.steps.values()) - sum(before.steps.values())) / seconds,
            keeps_up=sum(steps <= BEHIND for steps in behind) / jobs,
            behind=behind,
            cores={
                part: sum(value - used[part].get(pid, 0.0) for pid, value in its.items()) / seconds
                for part, its in then.items()
            },
            log_bytes=(after.log - before.log) / seconds,
            table_bytes=(after.tables - before.tables) / seconds,
            disk_bytes=(after.disk - before.disk) / seconds,
            disk_waits=(after.disk_waits - before.disk_waits) / seconds,
            waited=waits[0],
        )


def _settings(stack: contextlib.ExitStack, step_rollouts: int = 0) -> None:
    """Of all processes: a broker, and time to wait for a connection, as workers of a hundred jobs have to."""
    broker = RedisServer(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    broker.start()
    stack.callback(broker.stop)
    os.environ |= {
        "POLICYSPLIT_BROKER_URL": broker.url,
        "POLICYSPLIT_DATABASE_CONNECT_SECONDS": "120",
        "POLICYSPLIT_LEASE_SECONDS": "600",
        "POLICYSPLIT_STEP_ROLLOUTS": str(step_rollouts),
        "POLICYSPLIT_PROJECT_MAX_STEPS": "0",
        "POLICYSPLIT_PROJECT_MAX_SAMPLES": "0",
    }


@dataclass(frozen=True)
class _State:
    steps: dict[str, int]
    log: int
    tables: int
    disk: int
    disk_waits: float


def _state() -> _State:
    with read_session() as session:
        steps = dict(session.execute(select(Job.id, Job.step)).all())
        log = session.execute(text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")).scalar_one()
        tables = session.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    disk, waits = psutil.disk_io_counters(), getattr(psutil.cpu_times(), "iowait", 0.0)
    return _State(steps, int(log), int(tables), disk.write_bytes if disk else 0, waits)


def _server_pid() -> int:
    with get_engine().connect() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return psutil.Process(backend).ppid()


def _seconds(roots: Sequence[int]) -> dict[int, float]:
    """Of processors, that the processes and all of their children took so far."""
    found = dict[int, float]()
    for root in map(psutil.Process, roots):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
    return found


if __name__ == "__main__":
    main()
