"""What a key and a project may do at most: requests a minute, files, bytes, and memory."""

import asyncio
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest

from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT
from app.keys.rate import Bucket, RateLimiter, TooManyRequests
from app.keys.service import create_key
from tests.fixtures.api import Api, ApiProcess, Keyed, jsonl, on_sqlite, sums
from tests.fixtures.broker import RedisServer


def test_a_bucket_empties_and_fills():
    bucket = Bucket(per_minute=60, level=60, at=0.0)
    assert [bucket.take(0.0) for _ in range(60)] == [0.0] * 60
    assert bucket.take(0.0) == pytest.approx(1.0)
    assert bucket.take(0.75) == pytest.approx(0.25)
    assert bucket.take(1.0) == 0.0
    assert [bucket.take(1000.0) for _ in range(61)] == [0.0] * 60 + [pytest.approx(1.0)], (
        "no more than a minute's"
    )


@pytest.mark.parametrize("shared", [False, True])
def test_keys_do_not_share_a_bucket_and_a_new_limit_counts_anew(shared: bool, redis_server: RedisServer):
    async def ask() -> None:
        rates, others = (RateLimiter(redis_server.url if shared else None) for _ in range(2))
        for key in ("a", "b"):
            await rates.check(key, 1)
        with pytest.raises(TooManyRequests) as caught:
            await rates.check("a", 1)
        assert 50 < int(caught.value.headers["retry-after"]) <= 60
        await rates.check("a", 2)
        if shared:
            await others.check("a", 2)
            with pytest.raises(TooManyRequests):
                await rates.check("a", 2)
            redis_server.stop()
            # Each counts for itself while Redis is away.
            await rates.check("a", 2)
        for one in (rates, others):
            await one.close()

    asyncio.run(ask())


@on_sqlite
def test_a_key_over_its_limit_is_told_when_to_come_again(keyed: Keyed):
    _, secret = create_key("slow", DEFAULT_PROJECT, requests_per_minute=60)
    with keyed.api.client(secret) as client:
        sent = 0
        with pytest.raises(openai.RateLimitError) as caught:
            while sent < 200:
                client.models.list()
                sent += 1
        assert sent >= 60
        error = caught.value
        assert error.code == "rate_limit_exceeded"
        assert error.response.headers["retry-after"] == "1"
        assert error.response.headers["x-ratelimit-limit-requests"] == "60"
        assert error.request_id
        assert keyed.owner.models.list().data, "another key of the same project goes on"
        # The SDK waits as long as it is told, and then it is let in.
        began = time.monotonic()
        assert client.with_options(max_retries=2).models.list().data
        assert time.monotonic() - began < 10


@on_sqlite
def test_the_setting_is_the_limit_of_other_keys(keyed: Keyed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(get_settings(), "requests_per_minute", 2)
    answers = [httpx.get(f"{keyed.api.url}/v1/models", headers=bearer(keyed.secrets[0])) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert httpx.get(f"{keyed.api.url}/healthz").status_code == 200


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_file_quotas(keyed: Keyed, monkeypatch: pytest.MonkeyPatch):
    row = len(jsonl(sums(1)))
    monkeypatch.setattr(get_settings(), "project_max_files", 2)
    kept = [keyed.api.upload(keyed.owner, sums(1)) for _ in range(2)]
    with pytest.raises(openai.PermissionDeniedError, match="has 2 uploaded files; its limit is 2") as caught:
        keyed.api.upload(keyed.owner, sums(1))
    assert caught.value.code == "quota_exceeded"
    assert keyed.api.upload(keyed.stranger, sums(1)), "a quota is a project's own"
    keyed.owner.files.delete(kept.pop())
    kept.append(keyed.api.upload(keyed.owner, sums(1)))

    monkeypatch.setattr(get_settings(), "project_max_files", 0)
    monkeypatch.setattr(get_settings(), "project_max_file_bytes", 3 * row - 1)
    with pytest.raises(openai.PermissionDeniedError, match=f"have {2 * row} bytes"):
        keyed.api.upload(keyed.owner, sums(1))
    # A length that is not declared is found out at the end.
    form = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b\r\n'
    form += (
        b'content-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + jsonl(sums(1))
        + b"\r\n--b--\r\n"
    )
    headers = {**bearer(keyed.secrets[0]), "content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{keyed.api.url}/v1/files", content=iter([form]), headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "quota_exceeded"
    names = {path.name for path in (keyed.api.folder / "files").glob("file-*")}
    assert set(kept) <= names and len(names) == 3, "nothing is left behind"


@on_sqlite
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_large_file_is_not_held_in_memory(api_process: ApiProcess):
    api: Api = api_process.api
    line = jsonl([{"messages": [{"role": "user", "content": "x" * 4000}], "answer": "1"}])
    megabytes = 96
    with api.client() as client:
        api.upload(client, line)  # what the first upload imports is not the file's
        before = peak_bytes(api_process)
        api.upload(client, line * (megabytes * 1_000_000 // len(line)))
    grown = peak_bytes(api_process) - before
    assert grown < 16_000_000, f"{megabytes} MB of upload took {grown / 1e6:.0f} MB of memory"


def peak_bytes(process: ApiProcess) -> int:
    """The most memory that the API has had so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (line,) = [one for one in lines if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
