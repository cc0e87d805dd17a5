"""Metrics in the real libraries, offline; a job is refused before training where they cannot work."""

import sqlite3
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from tests.fixtures.workers import Service, eventually
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.lease import new_owner
from worker.shutdown import Shutdown

MLFLOW = {"type": "mlflow", "mlflow": {"experiment": "sums", "run_name": "first", "tags": {"team": "a"}}}
WANDB = {"type": "wandb", "wandb": {"project": "sums", "name": "first", "entity": None, "tags": ["a"]}}
TENSORBOARD = {"type": "tensorboard", "tensorboard": {}}
REWARD = "train/N/reward"


@pytest.fixture(autouse=True)
def no_service_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nor a key that lies there


def run(service: Service, *integrations: dict[str, Any], steps: int = 3) -> str:
    """A job with these integrations, to its end; its id."""
    method = {"type": "reinforcement", "reinforcement": {"algorithm": {"type": "grpo"}}}
    job_id = service.add_job(steps, integrations=list(integrations), method=method, user_metadata={"k": "v"})
    run_next(new_owner(), Shutdown())
    return job_id


def test_tensorboard(local_service: Service):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job_id = run(local_service, TENSORBOARD)
    assert local_service.job(job_id).status == "succeeded"
    folder = local_service.run_dir(job_id) / "tensorboard"

    def written() -> dict[int, float]:
        events = EventAccumulator(str(folder))
        events.Reload()
        return {one.step: one.value for one in events.Scalars(REWARD)} if events.Tags()["scalars"] else {}

    assert eventually(lambda: len(found := written()) == 3 and found) == pytest.approx(
        local_service.points(job_id)
    )


# MLflow's own use of SQLAlchemy, when a store is opened in this process.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
@pytest.mark.parametrize("store", ["database", "files"])
def test_mlflow(local_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: str):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}" if store == "database" else f"file:{tmp_path / 'mlruns'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    job_id = run(local_service, MLFLOW)
    assert local_service.job(job_id).status == "succeeded"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("sums")
    assert experiment is not None

    def finished() -> Any:
        (found,) = client.search_runs([experiment.experiment_id])
        return found if found.info.status == "FINISHED" else None

    done = eventually(finished)
    history = client.get_metric_history(done.info.run_id, REWARD)
    assert {one.step: one.value for one in history} == pytest.approx(local_service.points(job_id))
    assert done.data.params["reinforcement.algorithm.type"] == "grpo"
    assert done.data.tags.items() >= {"team": "a", "k": "v", "policysplit.job_id": job_id}.items()
    assert done.info.run_name == "first"


def journal(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format behind a header of 7 bytes."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if kind == 0:
            return
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # all of a record, or the last of its parts
            yield parts
            parts = b""


@pytest.mark.parametrize("finishes", [True, False])
def test_wandb(local_service: Service, monkeypatch: pytest.MonkeyPatch, finishes: bool):
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    monkeypatch.setenv("WANDB_MODE", "offline")
    if not finishes:
        local_service.script(default={"fail": {"code": "grader_failed", "message": "no grade"}})
    job_id = run(local_service, WANDB)
    assert local_service.job(job_id).status == ("succeeded" if finishes else "failed")

    def records() -> Iterator[Record]:
        (path,) = local_service.run_dir(job_id).glob("wandb/offline-run-*/*.wandb")
        for data in journal(path.read_bytes()):
            yield Record.FromString(data)

    def closed() -> list[Record] | None:
        try:
            found = list(records())
        except (struct.error, DecodeError):
            return None  # it is being written
        return found if any(one.HasField("exit") for one in found) else None

    found = eventually(closed, 40)
    assert found is not None
    # W&B shows a run as finished or as failed by it.
    assert [one.exit.exit_code for one in found if one.HasField("exit")] == [0 if finishes else 1]
    assert not [one.message for one in local_service.events(job_id) if "integration" in one.message]
    started = next(one.run for one in found if one.HasField("run"))
    assert (started.project, started.display_name, list(started.tags)) == ("sums", "first", ["a"])
    rows = [
        {item.key or "/".join(item.nested_key): item.value_json for item in one.history.item}
        for one in found
        if one.HasField("history")
    ]
    assert {int(row["step"]): float(row[REWARD]) for row in rows} == pytest.approx(
        local_service.points(job_id)
    )


REFUSED = [
    (MLFLOW, {}, "MLFLOW_TRACKING_URI is not set"),
    (MLFLOW, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "tracking server at MLFLOW_TRACKING_URI refused"),
    (WANDB, {}, "WANDB_API_KEY is not set"),
    (WANDB, {"WANDB_API_KEY": "short", "WANDB_BASE_URL": "http://127.0.0.1:9"}, "W&B refuses"),
]


@pytest.mark.parametrize(("integration", "environment", "says"), REFUSED)
def test_what_cannot_work_fails_before_training(
    local_service: Service,
    monkeypatch: pytest.MonkeyPatch,
    integration: dict[str, Any],
    environment: dict[str, str],
    says: str,
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job_id = run(local_service, integration)
    job = local_service.job(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("integration_failed", "integrations")
    assert says in job.error["message"]
    assert not list(local_service.run_dir(job_id).glob("trainer-*.log")), "no trainer was started"


def test_a_package_that_is_not_there_is_named(
    local_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "empty" / "tensorboard").mkdir(parents=True)
    (tmp_path / "empty" / "tensorboard" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "empty"), prepend=":")
    job_id = run(local_service, TENSORBOARD)
    job = local_service.job(job_id)
    assert job.error is not None
    assert "pip install 'policysplit[tensorboard]'" in job.error["message"]


def test_a_failure_later_is_a_warning(
    local_service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    database = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    local_service.script(default={"step_seconds": 0.2})
    job_ids: list[str] = []
    runner = threading.Thread(
        target=lambda: job_ids.append(run(local_service, MLFLOW, TENSORBOARD, steps=40))
    )
    runner.start()

    def count() -> int:
        if not database.exists():
            return 0
        with sqlite3.connect(database) as connection:
            try:
                return connection.execute("SELECT count(*) FROM metrics").fetchone()[0]
            except sqlite3.OperationalError:
                return 0

    eventually(count, 60)
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE metrics")
    runner.join()
    job_id = job_ids[0]
    assert local_service.job(job_id).status == "succeeded"

    def warnings() -> list[str]:
        return [one.message for one in local_service.events(job_id) if one.level == "warn"]

    eventually(warnings)
    assert "The integration 'mlflow' failed at step" in warnings()[0]
    assert len(local_service.points(job_id)) == 40
    assert Outcome(local_service.attempts(job_id)[0].outcome) is Outcome.SUCCEEDED
