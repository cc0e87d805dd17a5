"""A whole deployment of real processes on one of the two pairs of database and broker, to be broken.

*embedded* is SQLite and a Redis on a Unix socket, as ``policysplit serve`` has them; *external* is a
PostgreSQL server and a Redis on a port. Every process carries a mark in its environment, by which orphans are
found.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

import httpx
import psutil
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from app.cli.redis_server import find_redis_server, write_config
from app.core.db import build_engine
from tests.fixtures.databases import migrated_sqlite, temporary_database
from tests.fixtures.forks import Fork

T = TypeVar("T")
Pair = Literal["embedded", "external"]
REPOSITORY = Path(__file__).parents[2]
SCRIPTED_TRAINER = REPOSITORY / "tests" / "worker" / "scripted_trainer.py"
MARK = "POLICYSPLIT_CHAOS_MARK"
#: Room for runs, on a disk of their own that can be filled.
RUNS_BYTES = 48 << 20
RESERVE_BYTES = 4 << 20


def until(look: Callable[[], T], seconds: float, what: str) -> T:
    """What ``look`` returns once it is true: for what another process does."""
    patience = Patience(seconds)
    while not (found := look()):
        if patience.over():
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return found


class Patience:
    """A time limit that does not run while this process does not either: a machine may be suspended."""

    def __init__(self, seconds: float):
        self._left, self._looked = seconds, time.monotonic()

    def over(self) -> bool:
        """Whether the time is up; to be asked at least every two seconds."""
        now = time.monotonic()
        self._left -= min(now - self._looked, 2.0)
        self._looked = now
        return self._left < 0


class System:
    """Processes by name: ``broker``, ``api-N``, ``worker-N``, ``inference``."""

    def __init__(
        self, pair: Pair, folder: Path, database_url: str, *, apis: int, workers: int, **settings: str
    ):
        self.pair, self.folder, self.database_url = pair, folder, database_url
        self.mark = uuid4().hex
        self.script = folder / "script.json"
        self.served = ""
        self.weights: set[str] = set()
        self.names = ["broker", *(f"api-{n}" for n in range(apis)), *(f"worker-{n}" for n in range(workers))]
        self.database: Engine = build_engine(database_url)
        if database_url.startswith("sqlite"):
            event.listen(self.database, "connect", _impatient)
        self._processes: dict[str, Fork | subprocess.Popen[bytes]] = {}
        self._ports = {name: _free_port() for name in (*self.names, "inference")}
        self._redis_folder = folder / "data" / "redis"
        self._redis_folder.mkdir(parents=True, exist_ok=True)
        self.broker_url = (
            f"redis+socket://{self._redis_folder / 'redis.sock'}"
            if pair == "embedded"
            else f"redis://127.0.0.1:{self._ports['broker']}/0"
        )
        self._settings = {
            "POLICYSPLIT_DATA_DIR": str(folder / "data"),
            "POLICYSPLIT_DATABASE_URL": database_url,
            "POLICYSPLIT_BROKER_URL": self.broker_url,
            "POLICYSPLIT_LEASE_SECONDS": "3",
            "POLICYSPLIT_HEARTBEAT_SECONDS": "0.5",
            "POLICYSPLIT_RECONCILE_SECONDS": "0.5",
            "POLICYSPLIT_STOP_GRACE_SECONDS": "1",
            "POLICYSPLIT_CHECKPOINT_GRACE_SECONDS": "5",
            "POLICYSPLIT_RETRY_BACKOFF_SECONDS": "0.2",
            "POLICYSPLIT_WAKEUP_RESEND_SECONDS": "2",
            # A trial may kill one job's process over and over: that is not a fault of the job's.
            "POLICYSPLIT_MAX_ATTEMPTS": "50",
            "POLICYSPLIT_WORKER_SLOTS": "2",
            "POLICYSPLIT_DISK_RESERVE_BYTES": str(RESERVE_BYTES),
            "POLICYSPLIT_TRAINER_COMMAND": json.dumps(
                [sys.executable, str(SCRIPTED_TRAINER), "--script", str(self.script)]
            ),
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
            "POLICYSPLIT_TRAINER_ENVIRONMENT": json.dumps([MARK]),
            **settings,
        }

    # ----- processes

    def start(self, *names: str) -> None:
        """Start those of ``names`` (all, if none are given) that do not run."""
        for name in names or self.names:
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                self._processes[name] = self._start(name)

    def _start(self, name: str) -> "Fork | subprocess.Popen[bytes]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("POLICYSPLIT_", "DATABASE_URL"))}
        own = kept | self._settings | self._own(name)
        with (self.folder / f"{name}.log").open("ab") as log, Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            if name != "broker":
                return Fork(*self._module(name), streams=streams, folder=REPOSITORY, environment=own)
            config = write_config(self._redis_folder, self._redis_folder / "redis.sock")
            port = ["--port", str(self._ports[name])] if self.pair == "external" else []
            return subprocess.Popen(
                [find_redis_server(), str(config), *port],
                env=own,
                stdin=nothing,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _own(self, name: str) -> dict[str, str]:
        return {"POLICYSPLIT_INFERENCE_PORT": str(self._ports[name])} if name == "inference" else {}

    def _module(self, name: str) -> list[str]:
        """What ``python -m`` would be given."""
        if name.startswith("api"):
            app = ("--factory", "app.main:create_app", "--host", "127.0.0.1", "--log-level", "warning")
            return ["uvicorn", *app, "--timeout-graceful-shutdown", "3", "--port", str(self._ports[name])]
        return [{"inference": "worker.inference"}.get(name, "worker")]

    def pid(self, name: str) -> int | None:
        """Of a component that runs."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the component itself, and not to what it started."""
        if (pid := self.pid(name)) is not None:
            os.kill(pid, number)
            if number == signal.SIGKILL:
                self._processes[name].wait()

    def wait_for_end(self, name: str, seconds: float) -> int:
        """The exit code of a component that was asked to stop."""
        return self._processes[name].wait(seconds)

    def restart(self, name: str) -> None:
        """Ask a component to stop, and start it again: what a new version or a reboot does."""
        self.signal(name, signal.SIGTERM)
        self.wait_for_end(name, 30)
        self.start(name)
        self.wait_until_up(name)

    def marked(self) -> dict[int, str]:
        """Every living process of this system: id and command line.

        Components are forks, whose environment is not shown there: they are known by their ids.
        """
        found = {pid: name for name in self._processes if (pid := self.pid(name)) is not None}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def trainers(self) -> list[int]:
        """Process ids of the trainers, whoever started them."""
        return [pid for pid, command in self.marked().items() if "--run-dir" in command]

    def has_trainers(self, name: str) -> bool:
        """Whether the component runs a trainer."""
        if (pid := self.pid(name)) is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            children = {child.pid for child in psutil.Process(pid).children()}
            return bool(children.intersection(self.trainers()))
        return False

    def orphans(self) -> dict[int, str]:
        """Marked processes that belong to no living component."""
        owned: set[int] = set()
        for name in self._processes:
            if (pid := self.pid(name)) is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    owned |= {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        return {pid: command for pid, command in self.marked().items() if pid not in owned}

    def kill_everything(self) -> None:
        """As when the machine loses power: no process is left to notice another's end."""
        while found := self.marked():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._processes.values():
                process.poll()

    # ----- what is asked of it

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def wait_until_up(self, *names: str) -> None:
        """Return when the APIs answer and the broker does; workers are seen by what they do."""
        for name in names or self.names:
            if name.startswith("api"):
                until(lambda name=name: self._answers(name), 60, f"{name} answers")
            elif name == "broker":
                until(self._broker_answers, 30, "the broker answers")

    def _answers(self, name: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url(name)}/healthz", timeout=2).status_code == 200
        return False

    def _broker_answers(self) -> bool:
        with contextlib.suppress(RedisError), self.redis() as client:
            return bool(client.ping())
        return False

    def redis(self) -> Redis:
        if self.pair == "embedded":
            return Redis(unix_socket_path=str(self._redis_folder / "redis.sock"), socket_timeout=2)
        return Redis(host="127.0.0.1", port=self._ports["broker"], socket_timeout=2)

    @property
    def runs(self) -> Path:
        return self.folder / "data" / "runs"

    @property
    def model(self) -> Path:
        return self.folder / "data" / "models" / "tiny"

    def open_transactions(self) -> list[Any]:
        """Transactions that nobody is working in: what holds locks while nothing happens."""
        if self.pair == "external":
            with self.database.connect() as connection:
                query = (
                    "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '2 seconds'"
                )
                return list(connection.exec_driver_sql(query))
        path = make_url(self.database_url).database
        assert path is not None
        import sqlite3

        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                return [str(error)]
        return []

    def close(self) -> None:
        self.kill_everything()
        self.database.dispose()


def _impatient(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout=10000")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def clean_up_on_sigterm() -> None:
    """Of a command that runs systems: it takes them down before it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextlib.contextmanager
def running_system(
    pair: Pair,
    *,
    postgres: str | None = None,
    apis: int = 2,
    workers: int = 2,
    small_disk: bool = True,
    **settings: str,
) -> Iterator[System]:
    """A system that is up. ``postgres``: URL of a server for the external pair; ``small_disk``: for runs."""
    # Not pytest's folder: a socket's path may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    (folder / "data" / "files").mkdir(parents=True)
    (folder / "data" / "runs").mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if small_disk and _mounted(folder / "data" / "runs"):
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder / "data" / "runs")], check=False)
        if pair == "embedded":
            url = migrated_sqlite(folder / "data" / "policysplit.db")
        else:
            assert postgres is not None
            url = stack.enter_context(temporary_database(postgres, migrated=True))
        system = System(pair, folder, url, apis=apis, workers=workers, **settings)
        stack.callback(system.close)
        system.script.write_text("{}")
        system.start()
        system.wait_until_up()
        yield system


def can_fill_a_disk(system: System) -> bool:
    """Whether runs lie on a disk of their own."""
    return system.runs.is_mount()


def _mounted(folder: Path) -> bool:
    """Whether a small file system could be mounted there: it takes root, and a machine that lets it."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={RUNS_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
