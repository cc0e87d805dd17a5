"""Backups as the guides say: restored where nothing is, everything is read as before.

A service has an upload, a job that ended, whose rollouts are in archives by now, and one that runs. What was
backed up is gone for good when it is restored.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import select

from app.cli.relocation import DATABASE, relocate
from app.core.db import read_session
from app.core.store.artefacts import local
from app.core.store.remote import remote
from app.core.tables import Checkpoint, Rollout, RolloutArchive
from tests.fixtures.api import forget, jsonl, running_api, sums
from tests.fixtures.databases import migrated_sqlite, temporary_database
from tests.fixtures.service import run_cli
from tests.fixtures.workers import Service, eventually
from worker import archiving
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.reconciler import end_lost_attempts
from worker.retention import DAY, expire
from worker.shutdown import Shutdown


class Embedded:
    """A service on SQLite: ``policysplit backup`` and ``restore``."""

    def __init__(self, data: Path):
        self.data, self.url = data, ""
        data.mkdir()
        migrated_sqlite(data / DATABASE)

    def back_up(self, folder: Path, store: str) -> None:
        """Make the backup."""
        archive = str(folder / "backup.tar")
        made = run_cli("backup", archive, "--data-dir", str(self.data), POLICYSPLIT_STORE=store)
        assert made.returncode == 0 and "not in the backup" not in made.stderr, made.stderr
        assert ("is not in it" in made.stdout) == bool(store)

    def restore(self, folder: Path) -> tuple[Path, str]:
        """Data directory and database of a service made of it."""
        again = self.data.with_name("again")
        made = run_cli("restore", str(folder / "backup.tar"), "--data-dir", str(again))
        assert made.returncode == 0, made.stderr
        assert relocate(again.resolve()) is not None  # as `serve` does first
        return again, ""


class OnPostgres:
    """A service on PostgreSQL: ``pg_dump``, and then a copy of the data directory where there is no store."""

    def __init__(self, data: Path, url: str, empty: str):
        self.data, self.url, self._empty = data, url, empty

    def back_up(self, folder: Path, store: str) -> None:
        """Make the backup."""
        self._run("pg_dump", "-Fc", "-f", str(folder / "database.dump"), self.url)
        if not store:
            shutil.copytree(self.data, folder / "data")

    def restore(self, folder: Path) -> tuple[Path, str]:
        """Data directory and database of a service made of it."""
        self._run("pg_restore", "-d", self._empty, str(folder / "database.dump"))
        if not (folder / "data").exists():
            return self.data.with_name("again"), self._empty
        shutil.copytree(folder / "data", self.data)
        return self.data, self._empty

    def _run(self, program: str, *arguments: str) -> None:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
        assert found is not None
        subprocess.run([Path(found[0]) / program, *arguments], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def system(request: pytest.FixtureRequest, tmp_path: Path):
    """Each kind of service, before anything is in it."""
    if request.param == "sqlite":
        yield Embedded(tmp_path / "data")
        return
    server = request.getfixturevalue("postgres_url")
    with temporary_database(server, migrated=True) as url, temporary_database(server) as empty:
        yield OnPostgres(tmp_path / "data", url, empty)


@pytest.mark.parametrize("stored", [False, True], ids=["directory", "s3"])
def test_all_of_a_backup_is_read_as_before(
    system: Embedded | OnPostgres,
    stored: bool,
    bare_service: Callable[[str, str], Service],
    thread_pool: ThreadPoolExecutor,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = request.getfixturevalue("bucket") if stored else ""
    monkeypatch.setattr(archiving, "PART_BYTES", 500)
    monkeypatch.setattr(archiving, "ROWS", 2)
    service = bare_service(system.url, f"redis+socket://{tmp_path / 'no-redis.sock'}")
    service.script(attempt_1={"checkpoint_every": 2})
    ended = service.add_job(steps=5)
    assert run_next("worker", Shutdown()) is Outcome.SUCCEEDED
    monkeypatch.setenv("POLICYSPLIT_RETAIN_ROLLOUTS_DAYS", "1")
    forget()
    expire(now=time.time() + 2 * DAY)
    monkeypatch.delenv("POLICYSPLIT_RETAIN_ROLLOUTS_DAYS")
    forget()
    service.script(attempt_1={"checkpoint_every": 2, "hang_after": 3}, default={})
    runs = service.add_job(steps=5)
    shutdown = Shutdown()
    request.addfinalizer(shutdown.request)
    running = thread_pool.submit(run_next, "worker", shutdown)
    eventually(lambda: len(checkpoints(runs)) == 1 and len(service.rollouts(runs)) == 6)
    with read_session() as session:
        assert len(session.scalars(select(RolloutArchive)).all()) > 2
        assert {one.job_id for one in session.scalars(select(Rollout))} == {runs}
    with running_api(service.settings.data_dir) as api, api.client() as client:
        upload = api.upload(client, sums())
        assert client.files.content(upload).read() == jsonl(sums())
    before = everything(service, [ended, runs], upload)

    copy = tmp_path / "copy"
    (copy / "store").mkdir(parents=True)
    copy_store(copy / "store")
    system.back_up(copy, store)
    copy_store(copy / "store")

    shutdown.request()
    assert running.result(60) is Outcome.RELEASED
    if (there := remote()) is not None:
        there.remove([one.path for one in there.list("")])
    forget()
    shutil.rmtree(system.data)
    data, url = system.restore(copy)
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(data))
    monkeypatch.setenv("POLICYSPLIT_DATABASE_URL", url)
    if store:
        monkeypatch.setenv("POLICYSPLIT_STORE", f"file://{copy / 'store'}")
    forget()
    assert everything(service, [ended, runs], upload) == before

    # The host of the job that ran is lost: it goes on after its newest state in the copy.
    service.change(runs, lease_expires_at=time.time() - 1)
    end_lost_attempts()
    assert run_next("another", Shutdown()) is Outcome.SUCCEEDED
    assert "going on after step 2" in [event.message for event in service.events(runs)]
    assert service.rollouts(runs) == [(step, index) for step in range(1, 6) for index in (0, 1)]


def checkpoints(job_id: str) -> list[Checkpoint]:
    with read_session() as session:
        return list(session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id)))


def everything(service: Service, jobs: list[str], file: str) -> dict[str, bytes]:
    """What a service has: as its API tells it, and the files of checkpoints."""
    with (
        running_api(service.settings.data_dir) as api,
        httpx.Client(base_url=f"{api.url}/v1", timeout=60) as http,
    ):
        paths = [f"/files/{file}", f"/files/{file}/content"]
        for job_id in jobs:
            url = f"/fine_tuning/jobs/{job_id}"
            rollouts = http.get(f"{url}/rollouts", params={"limit": 100}).raise_for_status().json()["data"]
            assert rollouts
            paths += [f"{url}/rollouts/{one['id']}" for one in rollouts[:3]]
            paths += [f"{url}/{one}" for one in ("checkpoints", "rollouts?limit=100", "rollouts.jsonl")]
            results = http.get(url).raise_for_status().json()["result_files"]
            paths += [f"/files/{one}/content" for one in results]
        found = {path: http.get(path).raise_for_status().content for path in paths}
    for one in (one for job_id in jobs for one in checkpoints(job_id)):
        files = {f"{one.id}/{path.name}": path.read_bytes() for path in local(one.path).iterdir()}
        assert f"{one.id}/policysplit.json" in files
        found |= files
    return found


def copy_store(folder: Path) -> None:
    """What ``rclone copy`` does: nothing is removed from the copy."""
    if (store := remote()) is None:
        return
    for one in store.list(""):
        target = folder / one.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.get_bytes(one.path))
