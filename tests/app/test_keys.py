"""Keys: made, shown once, hashed, revoked; and what the service does without any."""

import logging
import socket
import threading
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from sqlalchemy import select

from app.core.addresses import is_loopback
from app.core.db import read_session
from app.core.tables import DEFAULT_PROJECT, ApiKey
from app.keys.service import KeyProblem, create_key, create_project, revoke_key
from app.main import create_app
from tests.fixtures.api import Api, Keyed, on_sqlite, sums, until_status, wait_until_up
from tests.fixtures.service import run_cli


def test_a_revoked_key_is_refused_within_seconds(keyed: Keyed):
    assert keyed.owner.models.list().data
    revoke_key(keyed.ids[0])
    until_status(keyed.api, 401, keyed.secrets[0])
    with pytest.raises(openai.AuthenticationError, match="revoked"):
        keyed.owner.models.list()
    assert keyed.stranger.models.list().data, "the other key goes on"
    revoke_key(keyed.ids[1])
    until_status(keyed.api, 401, keyed.secrets[1])
    assert httpx.get(f"{keyed.api.url}/v1/models").status_code == 401, "no key left is not keyless"


@on_sqlite
def test_the_secret_is_nowhere(keyed: Keyed, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    wrong = "sk-wrong" + "y" * 40
    keyed.api.upload(keyed.owner, sums(1))
    answer = httpx.get(f"{keyed.api.url}/v1/models", headers={"authorization": f"Bearer {wrong}"})
    assert wrong not in answer.text
    # An answer of ours with a trace in the log.
    for path in (keyed.api.folder / "files").glob("file-*"):
        path.unlink()
    (keyed.api.folder / "files" / "incoming").rmdir()
    (keyed.api.folder / "files").rmdir()
    (keyed.api.folder / "files").write_text("")
    with pytest.raises(openai.InternalServerError):
        keyed.api.upload(keyed.owner, sums(1))
    assert "Traceback" in caplog.text
    for secret in (*keyed.secrets, wrong):
        assert secret not in caplog.text
    stored = b"".join(path.read_bytes() for path in keyed.api.folder.parent.glob("test.db*"))
    with read_session() as session:
        hashes = session.scalars(select(ApiKey.sha256)).all()
    assert all(one.encode() in stored for one in hashes)
    assert not [secret for secret in keyed.secrets if secret[3:].encode() in stored]


@on_sqlite
def test_secrets_are_long_and_never_the_same(database_url: str, api: Api):
    secrets = {create_key("k", DEFAULT_PROJECT)[1] for _ in range(20)}
    assert len(secrets) == 20
    assert {len(secret) for secret in secrets} == {46}, "sk- and 256 bits in base64"


@on_sqlite
def test_what_cannot_be_made_is_said(api: Api):
    with pytest.raises(KeyProblem, match='there is no project "Nobody"; there are: Default'):
        create_key("k", "Nobody")
    for name in ("", " ", "a\nb", "x" * 257):
        with pytest.raises(KeyProblem, match="1 to 256 printable"):
            create_key(name, DEFAULT_PROJECT)
    project = create_project("Team")
    with pytest.raises(KeyProblem, match=f"taken by project {project.id}"):
        create_project("Team")
    assert create_key("k", "Team")[0].project_id == create_key("k", project.id)[0].project_id == project.id
    with pytest.raises(KeyProblem, match='no key "key_nope"'):
        revoke_key("key_nope")


@on_sqlite
def test_what_is_for_everybody_needs_no_key(keyed: Keyed):
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/"):
        assert httpx.get(keyed.api.url + path).status_code in (200, 307, 503)
    document = httpx.get(f"{keyed.api.url}/openapi.json").json()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@on_sqlite
@pytest.mark.parametrize("header", ["{}", "Basic {}", "bearer", "Bearer\t{}", "Bearer é"])
def test_other_headers_are_no_key(keyed: Keyed, header: str):
    value = header.format(keyed.secrets[0]).encode()
    answer = httpx.get(f"{keyed.api.url}/v1/models", headers={b"authorization": value})
    assert answer.status_code == 401


@on_sqlite
def test_the_scheme_is_read_in_any_case(keyed: Keyed):
    headers = {"authorization": f"bEARER {keyed.secrets[0]}"}
    assert httpx.get(f"{keyed.api.url}/v1/models", headers=headers).status_code == 200


@on_sqlite
def test_a_keyless_service_answers_its_own_machine_alone(api_environment: Path):
    """The address that a client came from decides, however the server was started."""
    listener = socket.create_server(("127.0.0.1", 0))
    # A proxy in front of it, on the same machine, names the client: uvicorn trusts it.
    server = uvicorn.Server(uvicorn.Config(create_app(), log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        wait_until_up(url)
        assert httpx.get(f"{url}/v1/models").status_code == 200
        for local in ("localhost:8700", "[::1]:8700", "127.0.0.1"):
            assert httpx.get(f"{url}/v1/models", headers={"host": local}).status_code == 200
        for foreign in (
            {"x-forwarded-for": "203.0.113.9"},
            {"host": "rebound.example:8700"},
            {"host": "[::"},
        ):
            answer = httpx.get(f"{url}/v1/models", headers=foreign)
            assert answer.status_code == 401
            assert "policysplit keys create" in answer.json()["error"]["message"]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "localhost", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "example.org", "::ffff:10.0.0.1")))


def test_the_commands(tmp_path: Path):
    where = ("--data-dir", str(tmp_path))
    refused = run_cli("serve", *where, "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "others can reach the API, but there are no keys yet" in refused.stderr
    team = run_cli("projects", "create", "Team", *where)
    assert team.returncode == 0, team.stderr
    made = run_cli("keys", "create", "--name", "ci", "--project", "Team", *where)
    secret = made.stdout.strip()
    assert (made.returncode, len(secret)) == (0, 46), "the key alone is on standard output"
    listed = run_cli("keys", "list", *where).stdout
    key_id = next(word for word in made.stderr.split() if word.startswith("key_"))
    assert key_id in listed and "Team" in listed and secret not in listed
    assert "Team" in run_cli("projects", "list", *where).stdout
    assert run_cli("keys", "revoke", key_id, *where).returncode == 0
    assert run_cli("keys", "revoke", "key_x", *where).returncode == 1
    assert run_cli("keys", "create", "--name", "x", "--project", "Nobody", *where).returncode == 1


def test_the_api_alone_refuses_too(tmp_path: Path):
    environment = {"POLICYSPLIT_DATA_DIR": str(tmp_path)}
    refused = run_cli("api", "--host", "0.0.0.0", **environment)
    assert refused.returncode == 1
    assert "policysplit migrate" in refused.stderr
    run_cli("migrate", **environment)
    refused = run_cli("api", "--host", "0.0.0.0", **environment)
    assert "there are no keys yet" in refused.stderr
