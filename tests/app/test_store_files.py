"""Uploads and results in a store: the API's hosts share nothing else."""

from pathlib import Path

import httpx
import openai
import pytest

from app.core.settings import get_settings
from app.core.store.remote import remote
from tests.fixtures.api import Api, jsonl, on_sqlite, sums
from tests.fixtures.object_store import Faults, FaultyS3

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
    with pytest.raises(openai.InternalServerError, match="rights to read, write, list") as refused:
        client.files.create(file=("sums.jsonl", jsonl(sums(3))), purpose="fine-tune")
    assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 503 and "needs" not in answer.json()["checks"]["database"]
    assert "rights to read, write" in answer.json()["checks"]["store"]
    faulty_s3.faults = Faults()
    assert client.files.list().data == []
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*"))
    assert api.upload(client, sums(3))


def test_without_a_store_there_is_nothing_to_redirect_to(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums(1))
    answer = httpx.get(f"{api.url}/v1/files/{file}/content?redirect=true")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "redirect"
    assert "store" not in httpx.get(f"{api.url}/readyz").json()["checks"]
