"""What can happen to a system. Each fault takes the system and a seeded generator, and leaves it healing.

What was killed is started again after a moment, as an init system does; what was frozen goes on.
"""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from random import Random

import psycopg
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from app.core.queue import QUEUE_NAME
from tests.chaos.serving import kill_engine
from tests.chaos.system import System, can_fill_a_disk

Fault = Callable[[System, Random], None]


def kill_api(system: System, rng: Random) -> None:
    _kill(system, rng, "api")


def kill_worker(system: System, rng: Random) -> None:
    _wait_for_work(system)
    _kill(system, rng, "worker")


def kill_broker(system: System, rng: Random) -> None:
    _kill(system, rng, "broker")


def kill_trainer(system: System, rng: Random) -> None:
    """A trainer with its whole group, as the system does when memory runs out."""
    for pid in _some(_wait_for_work(system), rng):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_everything(system: System, rng: Random) -> None:
    _wait_for_work(system)
    system.kill_everything()
    time.sleep(rng.uniform(0, 0.5))
    system.start()
    system.wait_until_up()


def stop_worker(system: System, rng: Random) -> None:
    """SIGTERM: its jobs go back to the queue with a checkpoint."""
    _wait_for_work(system)
    system.restart(_one(system, rng, "worker"))


def stop_api(system: System, rng: Random) -> None:
    system.restart(_one(system, rng, "api"))


def drop_messages(system: System, rng: Random) -> None:
    """Every message that waits at one of a few instants is lost."""
    for _ in range(rng.randint(1, 5)):
        with contextlib.suppress(RedisError), system.redis() as client:
            client.delete(QUEUE_NAME)
        time.sleep(rng.uniform(0, 0.2))


def duplicate_messages(system: System, rng: Random) -> None:
    """Messages that wait come again, and so do old ones for whatever job."""
    with contextlib.suppress(RedisError), system.redis() as client:
        waiting = client.lrange(QUEUE_NAME, 0, -1)
        kept = client.lrange("chaos-kept", 0, -1)
        for message in [*waiting, *kept]:  # type: ignore[misc]
            for _ in range(rng.randint(1, 3)):
                client.lpush(QUEUE_NAME, message)
        for message in waiting:  # type: ignore[union-attr]
            client.lpush("chaos-kept", message)


def freeze_worker(system: System, rng: Random) -> None:
    """Past its lease, so that another one takes its jobs and then there are two owners."""
    _wait_for_work(system)
    worker = [pid for name in [_one(system, rng, "worker")] if (pid := system.pid(name))]
    _freeze(system, rng, worker)


def freeze_worker_and_trainers(system: System, rng: Random) -> None:
    """As when a whole machine hangs: the trainers cannot see either that they are superseded."""
    trainers = _wait_for_work(system)
    worker = [pid for name in [_one(system, rng, "worker")] if (pid := system.pid(name))]
    _freeze(system, rng, [*worker, *trainers])


def cut_database(system: System, rng: Random) -> None:
    """PostgreSQL: all connections are ended and none is let in. SQLite: somebody holds the lock."""
    seconds = rng.uniform(0.1, 1.5)
    if system.pair == "embedded":
        path = make_url(system.database_url).database
        assert path is not None
        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")
        return
    name = make_url(system.database_url).database
    admin_url = make_url(system.database_url).set(database="postgres")
    with psycopg.connect(admin_url.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        time.sleep(seconds)
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    system.database.dispose()


def fill_disk(system: System, rng: Random) -> None:
    """Not a byte is left where runs lie, for a while."""
    _wait_for_work(system)
    ballast = system.runs / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        time.sleep(rng.uniform(0.5, 3.0))
    finally:
        ballast.unlink(missing_ok=True)


def _kill(system: System, rng: Random, kind: str) -> None:
    name = _one(system, rng, kind)
    system.signal(name, signal.SIGKILL)
    time.sleep(rng.uniform(0, 1))
    system.start(name)


def _wait_for_work(system: System) -> list[int]:
    """The trainers, once there are some; another fault may see to it that there are none."""
    deadline = time.monotonic() + 5
    while not (found := system.trainers()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _freeze(system: System, rng: Random, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(rng.uniform(4.0, 6.0))  # the lease is 3 s
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _one(system: System, rng: Random, kind: str) -> str:
    """A component of a kind; of the workers one that has work, where there is one."""
    names = [name for name in system.names if name.startswith(kind)]
    return rng.choice([name for name in names if system.has_trainers(name)] or names)


def _some(pids: list[int], rng: Random) -> list[int]:
    return rng.sample(pids, rng.randint(1, len(pids))) if pids else []


KILLS: dict[str, Fault] = {
    "kill_api": kill_api,
    "kill_worker": kill_worker,
    "kill_trainer": kill_trainer,
    "kill_broker": kill_broker,
    "kill_engine": kill_engine,
}
OTHERS: dict[str, Fault] = {
    "kill_everything": kill_everything,
    "stop_worker": stop_worker,
    "stop_api": stop_api,
    "drop_messages": drop_messages,
    "duplicate_messages": duplicate_messages,
    "freeze_worker": freeze_worker,
    "freeze_worker_and_trainers": freeze_worker_and_trainers,
    "cut_database": cut_database,
    "fill_disk": fill_disk,
}
FAULTS: dict[str, Fault] = KILLS | OTHERS


def draw(system: System, rng: Random, number: int) -> list[str]:
    """The faults of trial ``number``: each in turn, then pairs of kills, then pairs of anything."""
    possible = [name for name in FAULTS if name != "fill_disk" or can_fill_a_disk(system)]
    if number < len(possible):
        return [possible[number]]
    if number % 2:
        return rng.sample(sorted(KILLS), 2)
    return rng.sample(possible, 2)
