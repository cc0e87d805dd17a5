"""Uploads and results in a store: the API's hosts share nothing else."""

import json
import shutil
from pathlib import Path

import httpx
import openai
import pytest

from app.core.db import read_session
from app.core.settings import get_settings
from app.core.store import published as published_module
from app.core.store.artefacts import publish_base
from app.core.store.remote import remote
from app.core.tables import Job
from tests.fixtures.api import Api, create_job, jsonl, on_sqlite, sums
from tests.fixtures.object_store import Faults, FaultyS3
from tests.fixtures.service import run_cli

pytestmark = on_sqlite


def move_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's host, from now on, with nothing on its disk."""
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(folder))
    get_settings.cache_clear()


def test_an_upload_is_read_on_another_host(
    client: openai.OpenAI, api: Api, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = jsonl(sums(3))
    file = client.files.create(file=("sums.jsonl", content), purpose="fine-tune")
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*"))
    assert client.files.content(file.id).read() == content

    move_to(tmp_path / "another", monkeypatch)
    assert client.files.content(file.id).read() == content
    address = f"{api.url}/v1/files/{file.id}/content?redirect=true"
    answer = httpx.get(address, headers={"authorization": "Bearer any"})
    assert answer.status_code == 307 and "X-Amz-Signature" in answer.headers["location"]
    assert httpx.get(answer.headers["location"]).content == content

    assert client.files.delete(file.id).deleted
    store = remote()
    assert store is not None and list(store.list("files")) == []
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_a_store_that_is_away_is_told_and_nothing_is_taken_in(
    client: openai.OpenAI, api: Api, faulty_s3: FaultyS3
):
    assert httpx.get(f"{api.url}/readyz").json()["checks"]["store"] == "ok"
    faulty_s3.faults = Faults(times=99, status=403, code="AccessDenied")
    with pytest.raises(openai.InternalServerError, match="permission to read, write, list") as refused:
        client.files.create(file=("sums.jsonl", jsonl(sums(3))), purpose="fine-tune")
    assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 503 and "needs" not in answer.json()["checks"]["database"]
    assert "permission to read, write" in answer.json()["checks"]["store"]
    faulty_s3.faults = Faults()
    assert client.files.list().data == []
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*"))
    assert api.upload(client, sums(3))


def test_a_base_model_of_the_store_is_one_of_a_host_without_it(
    client: openai.OpenAI, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICYSPLIT_STORE", f"file://{tmp_path / 'store'}")
    get_settings.cache_clear()
    own = api.folder / "models" / api.model
    (own / "model.safetensors").write_bytes(b"weights")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for name in ("config.json", "modules.json"):
        (encoder / name).write_text("{}")
    for name, folder in ((api.model, own), ("org/encoder", encoder)):
        publish_base(name, folder)

    move_to(tmp_path / "another", monkeypatch)
    assert [model.id for model in client.models.list()] == [api.model]
    shown = client.models.retrieve(api.model)
    assert (shown.id, shown.owned_by) == (api.model, "system") and shown.created > 0
    with pytest.raises(openai.NotFoundError, match=f"Available: {api.model};"):
        client.models.retrieve("another")
    job = create_job(client, api, api.upload(client, sums()))
    with read_session() as session:
        assert session.get_one(Job, job.id).run_spec["model"]["path"] == f"store:base/{api.model}"
    wanted = {"evaluation": {"embedding_model": api.model}}
    with pytest.raises(openai.BadRequestError, match="is not a text encoder"):
        create_job(client, api, job.training_file, reinforcement=wanted)
    assert not list((tmp_path / "another").rglob("*.safetensors")), "an API needs no weights"
    settings = {"POLICYSPLIT_STORE": get_settings().store, "POLICYSPLIT_DATA_DIR": str(tmp_path / "another")}
    listed = json.loads(run_cli("models", "list", "--json", **settings).stdout)
    assert [(one["name"], one["where"]) for one in listed] == [
        ("org/encoder", "store"),
        (api.model, "store"),
    ]
    assert listed[1]["bytes"] == len(b"{}") + len(b"weights")

    # A store that is away takes nothing from what is known.
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").write_text("no folder")
    monkeypatch.setattr(published_module, "SECONDS", 0.0)
    assert [model.id for model in client.models.list()] == [api.model]


def test_without_a_store_there_is_nothing_to_redirect_to(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums(1))
    answer = httpx.get(f"{api.url}/v1/files/{file}/content?redirect=true")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "redirect"
    assert "store" not in httpx.get(f"{api.url}/readyz").json()["checks"]
