"""The service around its resources: health, headers, durability, what it imports."""

import subprocess
import sys

import httpx
import openai
import pytest
from sqlalchemy import event

from app.core.db import build_engine, get_engine
from app.core.health import connections_warning
from app.core.settings import get_settings
from tests.fixtures.api import Api, ApiProcess, create_job, jsonl, on_postgresql, on_sqlite, sums
from tests.fixtures.broker import RedisServer
from tests.fixtures.fleet import training_worker


def test_readiness(api: Api, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, database_url: str):
    assert httpx.get(f"{api.url}/healthz").json() == {"status": "ok"}
    for path in ("healthz", "readyz"):  # as monitors ask that want no body
        asked = httpx.head(f"{api.url}/{path}")
        assert (asked.status_code, asked.content) == (httpx.get(asked.url).status_code, b"")
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "schema": "ok", "broker": "does not answer"}
    monkeypatch.setenv("BROKER_URL", redis_server.url)
    get_settings.cache_clear()
    assert httpx.get(f"{api.url}/readyz").json()["status"] == "ready"

    engine = build_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    engine.dispose()
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 503
    assert "at revision 0001" in answer.json()["checks"]["schema"]


@on_postgresql
def test_too_few_connections_are_told_of(api: Api, monkeypatch: pytest.MonkeyPatch):
    with get_engine().connect() as connection:
        most = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
        reserved = int(connection.exec_driver_sql("SHOW superuser_reserved_connections").scalar_one())
    room = (most - reserved - 18) // 2
    # A worker that is there leaves nothing to be warned of.
    training_worker()
    assert httpx.get(f"{api.url}/readyz").json()["warnings"] == []
    monkeypatch.setattr(get_settings(), "database_connections", room)
    assert httpx.get(f"{api.url}/readyz").json()["warnings"] == [], "as many as there is room for"
    monkeypatch.setattr(get_settings(), "database_connections", room + 1)
    (warning,) = httpx.get(f"{api.url}/readyz").json()["warnings"]
    for said in (f"max_connections = {most},", f"POLICYSPLIT_DATABASE_CONNECTIONS to {room} at most"):
        assert said in warning
    assert f"max_connections to {2 * (room + 1) + 18 + reserved} at least" in warning


@on_postgresql
def test_a_connection_is_asked_once_how_many_there_may_be(api: Api):
    asked = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append("max_connections" in statement)

    event.listen(get_engine(), "before_cursor_execute", note)
    try:
        for _ in range(20):
            assert connections_warning() is None
    finally:
        event.remove(get_engine(), "before_cursor_execute", note)
    assert sum(asked) <= 10, "more often than the pool keeps connections"


@on_sqlite
def test_every_response_has_a_request_id(api: Api):
    for path, headers in (("/healthz", {}), ("/v1/nothing", {}), ("/v1/files", {"x-request-id": "bad id"})):
        answer = httpx.get(api.url + path, headers=headers)
        assert answer.headers["x-request-id"].startswith("req_")
        assert int(answer.headers["openai-processing-ms"]) >= 0
    answer = httpx.get(f"{api.url}/v1/files", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"


@on_sqlite
def test_a_fault_of_ours_tells_nothing_but_the_request_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    # The bytes' folder turns into a file: nobody foresaw that.
    (api.folder / "files").write_text("")
    answer = httpx.post(
        f"{api.url}/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", jsonl(sums(1)))}
    )
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert answer.headers["x-request-id"] in error["message"]
    assert "Traceback" not in answer.text
    assert str(api.folder) not in answer.text
    assert answer.headers["x-request-id"] in caplog.text


@on_sqlite
def test_the_documentation_describes_everything(api: Api):
    paths = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    assert {"/v1/files", "/v1/fine_tuning/jobs", "/v1/models", "/v1/chat/completions"} <= paths.keys()
    assert httpx.get(api.url, follow_redirects=True).status_code == 200


def test_what_was_acknowledged_survives_kill_9(api_process: ApiProcess):
    api = api_process.api
    with api.client() as client:
        content = jsonl(sums())
        file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
        job = create_job(client, api, file.id, headers={"Idempotency-Key": "once"})
        api_process.kill()
        with pytest.raises(openai.APIConnectionError):
            client.fine_tuning.jobs.retrieve(job.id)
        api_process.start()
        assert client.files.content(file.id).read() == content
        assert client.fine_tuning.jobs.retrieve(job.id) == job
        assert create_job(client, api, file.id, headers={"Idempotency-Key": "once"}).id == job.id


@pytest.mark.parametrize("module", ["app.main", "worker.celery_app"])
def test_the_service_imports_nothing_heavy(module: str):
    code = (
        f"import sys, {module}; "
        "heavy = {'torch', 'transformers', 'vllm', 'reasoning_gym', 'scipy'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
