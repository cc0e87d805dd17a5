"""``policysplit doctor``: what is well is said to be, and what is not, with what to do about it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.cli.doctor import clocks, connected
from app.cli.doctor.command import examine
from app.cli.doctor.finding import Finding
from app.core.db import build_engine
from app.core.settings import get_settings
from tests.fixtures.api import forget
from tests.fixtures.broker import RedisServer
from tests.fixtures.fleet import inference_worker, training_worker
from tests.fixtures.service import cli_environment, run_cli
from tests.fixtures.workers import Service


@pytest.fixture
def surroundings(queued_service: Service, bucket: str) -> None:
    """This process is a host for which all is well, with a store."""
    training_worker()


def found(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Finding]:
    """What is found with these settings beside those of the fixtures."""
    with monkeypatch.context() as changed:
        for name, value in environment.items():
            changed.setenv(name, value)
        forget()
        findings = {one.check: one for one in examine()}
    forget()
    return findings


def test_each_fault_is_found_and_the_rest_is_looked_at_all_the_same(
    surroundings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = found(monkeypatch)
    assert {one.status for one in well.values()} == {"ok"}, well
    assert well.keys() >= {
        *("database", "schema", "broker", "store", "data directory", "gpus", "sandbox", "clock", "workers"),
        "versions",
    }
    assert "broker, store" in well["clock"].found

    file = tmp_path / "a-file"
    file.write_text("")
    wrong = {
        "POLICYSPLIT_DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/x",
        "POLICYSPLIT_BROKER_URL": "redis://:hidden@127.0.0.1:1/0",
        "AWS_ACCESS_KEY_ID": "nobody",
        "POLICYSPLIT_DATA_DIR": str(file / "below"),
        "POLICYSPLIT_GPUS": "0",
        "POLICYSPLIT_WORKER_SLOTS": "2",
    }
    done = run_cli("doctor", "--json", **_given() | wrong)
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"]) == (1, "failed")
    faults = {one["check"]: one["do"] for one in told["checks"] if one["status"] == "failed"}
    for name, do in {
        "database": "correct DATABASE_URL",
        "broker": "correct BROKER_URL",
        "store": "check AWS_ACCESS_KEY_ID",
        "data directory": "POLICYSPLIT_DATA_DIR",
        "gpus": "give at most 1 slots",
    }.items():
        assert do in faults.pop(name)
    assert faults == {} and "hidden" not in done.stdout


def _given() -> dict[str, str]:
    kept = ("AWS_", "POLICYSPLIT_STORE")
    return {name: value for name, value in os.environ.items() if name.startswith(kept)}


def test_people_read_it_too(local_service: Service) -> None:
    done = run_cli(
        "doctor",
        DATABASE_URL=local_service.settings.database_url,
        POLICYSPLIT_GPUS="0",
        POLICYSPLIT_WORKER_SLOTS="2",
    )
    assert (
        done.returncode == 1 and "failed   gpus" in done.stdout and "do: give at most 1 slots" in done.stdout
    )


def test_without_settings_or_a_database_it_says_so_and_makes_nothing(
    local_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (finding,) = found(monkeypatch, POLICYSPLIT_WORKER_SLOTS="none").values()
    assert finding.status == "failed" and "POLICYSPLIT_WORKER_SLOTS='none'" in finding.found
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    empty = found(monkeypatch, POLICYSPLIT_DATA_DIR=str(nowhere), POLICYSPLIT_DATABASE_URL="")
    assert "policysplit.db is not there" in empty["database"].found
    assert not list(nowhere.iterdir())


def test_a_schema_of_another_version_is_told_of(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision, status, do in (
        ("0001", "failed", "policysplit migrate"),
        ("9999", "warning", "install that version here, too"),
    ):
        engine = build_engine(local_service.settings.database_url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        engine.dispose()
        findings = found(monkeypatch)
        assert (findings["schema"].status, findings["database"].status) == (status, "ok")
        assert do in findings["schema"].do


def test_a_broker_that_forgets_is_warned_of(
    queued_service: Service, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    finding = found(monkeypatch)["broker"]
    assert finding.status == "warning" and "noeviction" in finding.do


def test_workers_that_are_gone_or_of_another_version(local_service: Service) -> None:
    assert "No worker is connected" in next(connected.workers()).found
    gone = time.time() - get_settings().lease_seconds - 1
    training_worker(version="0.0.9")
    inference_worker("gone", heartbeat_at=gone)
    lost, versions = connected.workers()
    assert (lost.status, "gone" in lost.found) == ("warning", True)
    assert versions.status == "warning" and "gpu-1:7:aa (0.0.9)" in versions.found
    training_worker(draining=True)
    assert "All workers are draining" in next(connected.workers()).found


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "ok"), (3.0, "warning"), (-40.0, "failed")])
def test_this_hosts_clock_is_compared_with_those_of_the_others(
    surroundings: None,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    ahead: float,
    status: str,
) -> None:
    """By the database's, the broker's and the store's own: ours is moved, theirs are asked."""
    monkeypatch.setenv("POLICYSPLIT_DATABASE_URL", postgres_url)
    monkeypatch.setenv("POLICYSPLIT_LEASE_SECONDS", "20")
    get_settings.cache_clear()
    clocks.get_engine.cache_clear()
    monkeypatch.setattr(clocks, "time", SimpleNamespace(time=lambda: time.time() + ahead))
    (found,) = clocks.clocks()
    assert found.status == status, found
    for name in ("database", "broker", "store"):
        assert name in found.found
    clocks.get_engine().dispose()


def test_a_worker_whose_clock_is_ahead_is_named(local_service: Service) -> None:
    training_worker("early", heartbeat_at=time.time() + 60)
    (found,) = clocks.clocks()
    assert found.status == "failed" and "behind that of the worker early" in found.found


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: util-linux")
def test_where_namespaces_are_forbidden_it_says_what_allows_them(tmp_path: Path) -> None:
    inside = (
        "echo 0 > /proc/sys/user/max_user_namespaces && "
        "exec setpriv --bounding-set=-all --no-new-privs $0 -m app.cli doctor --json"
    )
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", inside, sys.executable]
    environment = cli_environment(POLICYSPLIT_DATA_DIR=str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if not done.stdout:
        pytest.skip(f"namespaces cannot be forbidden here: {done.stderr.strip()}")
    (found,) = (one for one in json.loads(done.stdout)["checks"] if one["check"] == "sandbox")
    assert found["status"] == "failed" and "user.max_user_namespaces" in found["do"]
