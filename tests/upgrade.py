"""An upgrade under load: ``python -m tests.upgrade --from COMMIT`` runs that commit and this one together.

The earlier commit's code is taken out of git into a folder of its own and runs in this environment. A job is
trained by its worker while the database is migrated and the API exchanged; jobs that the new API takes are
run by the old worker; an old worker is started anew on the new schema; a new worker takes over what an old
one leaves. It prints what it sees, and ends with 1 where something is not as docs/guides/upgrading.md says.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.system import SCRIPTED_TRAINER, until
from tests.chaos.workload import job_body
from tests.fixtures.api import jsonl, sums
from tests.fixtures.broker import RedisServer
from tests.fixtures.databases import postgres_server, temporary_database

ROOT = Path(__file__).parents[1]
#: Steps of a job that goes on for as long as parts take to start.
LONG = 900
CODE = ("app", "worker", "trainer", "migrations")


class Site:
    """Database, broker and data directory, which both versions share."""

    def __init__(self, folder: Path, database_url: str, broker_url: str):
        self.folder, self._began = folder, time.monotonic()
        self.script = folder / "script.json"
        # The trainer is the same for both: what it does is not what is upgraded.
        self.script.write_text(json.dumps({"default": {"step_seconds": 0.2, "checkpoint_every": 2}}))
        (folder / "data" / "models" / "tiny").mkdir(parents=True)
        (folder / "data" / "models" / "tiny" / "config.json").write_text("{}")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POLICYSPLIT_")},
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "POLICYSPLIT_DATA_DIR": str(folder / "data"),
            "POLICYSPLIT_HEARTBEAT_SECONDS": "0.5",
            "POLICYSPLIT_LEASE_SECONDS": "5",
            "POLICYSPLIT_RECONCILE_SECONDS": "0.5",
            "POLICYSPLIT_TRAINER_COMMAND": json.dumps(
                [sys.executable, str(SCRIPTED_TRAINER), "--script", str(self.script)]
            ),
        }

    def say(self, text: str) -> None:
        """A line of the log."""
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    def run(self, code: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the version in ``code`` to its end."""
        command = [sys.executable, "-P", "-m", "app.cli", *words]
        return subprocess.run(command, env=self.environment_of(code), capture_output=True, text=True)

    @contextlib.contextmanager
    def part(self, code: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A part of the version in ``code``, within the block at most."""
        with (self.folder / f"{code.name}-{words[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", *words],
                env=self.environment_of(code),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            end(process)

    def environment_of(self, code: Path) -> dict[str, str]:
        """Of the version in ``code``."""
        return {**self._environment, "PYTHONPATH": str(code)}


def end(process: "subprocess.Popen[bytes]") -> None:
    """By SIGTERM, as an operator does."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Api:
    """One API, asked as clients do."""

    def __init__(self, url: str):
        self.url = url

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=30).json()

    def readiness(self) -> tuple[int, str]:
        """The status of ``/readyz`` and what it says of the schema."""
        answer = httpx.get(f"{self.url}/readyz", timeout=30)
        return answer.status_code, answer.json()["checks"]["schema"]

    def job(self, steps: int) -> str:
        """A new job of so many steps, a fifth of a second each; its id."""
        files = {"file": ("rows.jsonl", jsonl(sums(8)))}
        file = httpx.post(f"{self.url}/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
        body = job_body(file, steps)
        answer = httpx.post(f"{self.url}/v1/fine_tuning/jobs", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def reaches(self, job: str, *statuses: str) -> str:
        """The job's status once it is one of these."""
        path = f"/v1/fine_tuning/jobs/{job}"

        def look() -> str | None:
            status = self.get(path)["status"]
            return status if status in (*statuses, "failed", "cancelled") else None

        found = until(look, 600, f"{job} is {' or '.join(statuses)}")
        assert found in statuses, f"{job} is {found}, and should be {' or '.join(statuses)}"
        return found

    def workers_of(self, job: str) -> list[tuple[str, str | None]]:
        """Who had the job, the first first, and how that ended."""
        told = self.get(f"/v1/fine_tuning/jobs/{job}/attempts")["data"]
        return [(one["worker"], one["outcome"]) for one in sorted(told, key=lambda one: one["attempt"])]


def upgrade(site: Site, old: Path, new: Path, ports: tuple[int, int]) -> None:
    """The upgrade of the guide, step by step. Raises AssertionError."""
    made = site.run(old, "migrate")
    assert made.returncode == 0, made.stderr
    site.say(f"the old version has made the schema: {revision(site, old)}")
    first, second = (Api(f"http://127.0.0.1:{port}") for port in ports)
    with contextlib.ExitStack() as parts:
        old_api = parts.enter_context(site.part(old, "api", "--port", str(ports[0])))
        old_worker = parts.enter_context(site.part(old, "worker"))
        until(lambda: answers(first), 600, "the old API is up")
        job = first.job(LONG)
        first.reaches(job, "running")
        site.say("old API, old worker: a job runs")

        migrated = site.run(new, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        site.say(f"the new version has migrated under it: {revision(site, new)}")
        status, schema = first.readiness()
        site.say(f"the old API's /readyz: {status}, schema {schema}")
        assert status == 200, "an old API is ready on the new schema"
        parts.enter_context(site.part(new, "api", "--port", str(ports[1])))
        until(lambda: answers(second), 600, "the new API is up")
        end(old_api)
        site.say("the new API answers, the old one has ended")

        assert second.get(f"/v1/fine_tuning/jobs/{job}")["status"] == "running"
        second.reaches(job, "succeeded")
        site.say("the job of before has succeeded at the old worker")
        job = second.job(10)
        second.reaches(job, "succeeded")
        site.say("a job of the new API has succeeded at the old worker")

        end(old_worker)
        old_worker = parts.enter_context(site.part(old, "worker"))
        job = second.job(LONG)
        second.reaches(job, "running")
        site.say("an old worker that was started on the new schema runs a job")
        parts.enter_context(site.part(new, "worker"))
        until(lambda: len(live(second)) == 2, 600, "the new worker is seen")
        examined = site.run(new, "doctor")
        site.say(f"doctor ends with {examined.returncode}")
        end(old_worker)
        site.say("the old worker was told to end: SIGTERM")
        second.reaches(job, "succeeded")
        (left, released), (taken, ended) = second.workers_of(job)
        site.say(f"its job: {released} by {left}, {ended} by {taken}")
        assert (released, ended) == ("released", "succeeded"), "the new worker went on with it"
        assert left != taken


def live(api: Api) -> list[str]:
    return [one["id"] for one in api.get("/v1/workers")["data"] if one["status"] != "lost"]


def answers(api: Api) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{api.url}/healthz", timeout=30).status_code == 200
    return False


def revision(site: Site, code: Path) -> str:
    """Where the schema is, and which one this version was written for."""
    asked = (
        "from app.core.db import get_engine; from app.core.migrate import current_revision, head_revision;"
        "print(f'revision {current_revision(get_engine())}, and this version knows {head_revision()}')"
    )
    command = [sys.executable, "-P", "-c", asked]
    return subprocess.run(
        command, env=site.environment_of(code), capture_output=True, text=True, check=True
    ).stdout.strip()


def code_of(commit: str, folder: Path) -> Path:
    """The code of a commit, in a folder of its own."""
    command = ["git", "archive", commit, *CODE]
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    target = folder / "old"
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(target, filter="data")
    return target


def before() -> str:
    """The newest commit whose schema is older than this checkout's."""
    return f"{git('log', '--format=%h', '--max-count=1', '--', 'migrations/versions')}~1"


def git(*words: str) -> str:
    """What a command of git's says."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """1 where something is not as the guide says."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--from", dest="commit", default=None, help="the commit that is upgraded from")
    options = parser.parse_args(arguments)
    commit = options.commit or before()
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    broker = RedisServer(folder)
    broker.start()
    try:
        with postgres_server() as server, temporary_database(server) as database:
            site = Site(folder, database, broker.url)
            site.say(f"from {git('log', '-1', '--format=%h %s', commit)}")
            upgrade(site, code_of(commit, folder), ROOT, free_ports())
            site.say("done")
    except AssertionError as error:
        print(f"not as it should be: {error}\nlogs: {folder}", file=sys.stderr)
        return 1
    finally:
        broker.stop()
    shutil.rmtree(folder)
    return 0


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
