"""``policysplit store``: a data directory moves into a store, in as many goes as it takes."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select

from app.checkpoints.repository import upsert_checkpoint
from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.store.artefacts import local
from app.core.store.errors import StoreError
from app.core.store.runs import stored_states
from app.core.tables import DEFAULT_PROJECT, Checkpoint, File, Job
from app.files.storage import local_path, path_of, store
from app.storage.moving import Moved, move
from tests.fixtures.object_store import Faults, FaultyS3
from tests.fixtures.service import run_cli
from tests.fixtures.workers import Service


def fill(service: Service) -> tuple[str, str]:
    """A data directory without a store: a file, a base model, a finished and a paused job; the jobs' ids."""
    tiny = service.settings.models_dir / "tiny"
    tiny.mkdir(parents=True)
    (tiny / "config.json").write_text('{"model_type": "llama"}')
    stored = store(b'{"messages": []}\n')
    with write_session() as session:
        session.add(
            File(
                **vars(stored),
                project_id=DEFAULT_PROJECT,
                created_at=1.0,
                filename="rows.jsonl",
                purpose="fine-tune",
            )
        )
    data = {"type": "jsonl", "path": str(path_of(stored.id))}
    spec = {"run_id": "r", "total_steps": 3, "model": {"path": str(tiny)}, "training_data": data}
    finished = service.add_job(run_spec=spec, status="succeeded", finished_at=2.0)
    folder = service.run_dir(finished) / "checkpoints" / "step-3"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with write_session() as session:
        upsert_checkpoint(
            session,
            session.get_one(Job, finished),
            step=3,
            path=str(folder),
            high_entropy_prompt="",
            manifest_sha256="0" * 64,
            metrics={},
        )
    further = spec | {"model": {"path": str(folder)}}
    paused = service.add_job(run_spec=further, status="paused")
    state = service.run_dir(paused) / "state" / "step-2"
    state.mkdir(parents=True)
    (state / "state.json").write_text("2")
    return finished, paused


def use(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYSPLIT_STORE", bucket)
    get_settings.cache_clear()


def test_what_is_broken_off_is_gone_on_with(
    local_service: Service, faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = os.environ["POLICYSPLIT_STORE"]
    use("", monkeypatch)
    finished, paused = fill(local_service)
    use(bucket, monkeypatch)

    # It ends after each object that goes up, over and over, and gets further each time.
    moved = None
    while moved is None:
        faulty_s3.faults = Faults(method="PUT", status=403, code="AccessDenied")
        let_one_through(faulty_s3)
        with suppress(StoreError):
            moved = move(lambda _: None)
    assert (moved.models, moved.missing) == (1, [])
    again = move(lambda _: None)
    assert again == Moved(files=1, checkpoints=0, states=1, models=1)

    another = tmp_path / "another"
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(another))
    get_settings.cache_clear()
    with read_session() as session:
        file = session.scalars(select(File)).one()
        checkpoint = session.scalars(select(Checkpoint)).one()
        specs = {job.id: job.run_spec for job in session.scalars(select(Job))}
    assert local_path(file).read_bytes() == b'{"messages": []}\n'
    assert (local(checkpoint.path) / "config.json").read_text() == "{}"
    assert specs[finished]["model"]["path"] == "store:base/tiny"
    assert specs[paused]["model"]["path"] == checkpoint.path
    assert local(specs[paused]["training_data"]["path"]) == local_path(file)
    assert json.loads((local("store:base/tiny") / "config.json").read_text()) == {"model_type": "llama"}
    (state,) = stored_states(paused).values()
    assert (local(str(state)) / "state" / "step-2" / "state.json").read_text() == "2"


def let_one_through(proxy: FaultyS3) -> None:
    """Of what is written from here on the first is let through, and all that follows is refused."""
    take, written = proxy.faults, []

    class OneThrough(Faults):
        pass

    faults = OneThrough(**{key: value for key, value in vars(take).items() if key != "seen"})
    proxy.faults = faults
    original = proxy.__class__.take

    def counted(method: str, path: str) -> Faults | None:
        if method == "PUT":
            written.append(path)
            faults.times = 1 if len(written) > 1 else 0
        return original(proxy, method, path)

    proxy.take = counted  # type: ignore[method-assign]


def test_the_commands_say_what_came_of_it(local_service: Service, bucket: str) -> None:
    refused = run_cli("store", "check", POLICYSPLIT_STORE="")
    assert refused.returncode == 1 and "POLICYSPLIT_STORE is not set" in refused.stderr
    given = {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "POLICYSPLIT_STORE": bucket,
        "POLICYSPLIT_DATA_DIR": str(local_service.settings.data_dir),
        "DATABASE_URL": local_service.settings.database_url,
    }
    checked = run_cli("store", "check", "--json", **given)
    assert json.loads(checked.stdout) == {"store": bucket, "status": "ok"}
    wrong = run_cli("store", "check", **given | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert wrong.returncode == 1 and "rejected the credentials" in wrong.stderr
    told = run_cli("store", "migrate", "--json", **given)
    assert json.loads(told.stdout) == {
        "store": bucket,
        "files": 0,
        "checkpoints": 0,
        "rollout_archives": 0,
        "states": 0,
        "models": 0,
        "missing": [],
    }
