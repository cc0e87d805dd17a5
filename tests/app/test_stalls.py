"""No request holds the database or a thread for longer than its time: what is too slow ends, and says so."""

import socket
import threading
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from app.core.db import READS, Reads, build_engine, close_engine, get_engine, read_session, write_session
from app.core.settings import get_settings
from tests.fixtures.api import Api, on_postgresql, on_sqlite
from tests.fixtures.workers import eventually

FOR_EVER = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 1000000000000)",
}


@pytest.fixture
def impatient(database_url: str) -> Iterator[Engine]:
    engine = build_engine(database_url, statement_seconds=0.2)
    yield engine
    close_engine(engine)


def test_a_query_ends_when_its_time_is_over(impatient: Engine):
    query = text(FOR_EVER[impatient.dialect.name])
    with pytest.raises(OperationalError), read_session(impatient) as session:
        session.execute(query)
    with read_session(impatient) as session:
        assert session.scalar(text("SELECT 1")) == 1, "the next one has its own time"


def test_a_reader_that_nobody_waits_for_is_ended(engine: Engine):
    reads = Reads()
    token = READS.set(reads)
    timer = threading.Timer(0.2, reads.end)
    timer.start()
    try:
        with pytest.raises(OperationalError), read_session(engine) as session:
            session.execute(text(FOR_EVER[engine.dialect.name]))
    finally:
        READS.reset(token)
        timer.join()
    with read_session(engine) as session:
        assert session.scalar(text("SELECT 1")) == 1, "and no later one"


@on_postgresql
@pytest.mark.parametrize(("limit", "code"), [("STATEMENT", "database_timeout"), ("LOCK", "database_locked")])
def test_a_request_that_waits_too_long_says_so(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database_url: str, limit: str, code: str
):
    monkeypatch.setenv(f"POLICYSPLIT_DATABASE_{limit}_SECONDS", "0.4")
    api: Api = request.getfixturevalue("api")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
        answer = httpx.get(f"{api.url}/v1/models", timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
        assert "0.4 s" in answer.json()["error"]["message"]
        assert httpx.get(f"{api.url}/v1/files", timeout=20).status_code == 200
    assert httpx.get(f"{api.url}/v1/models", timeout=20).status_code == 200


@on_sqlite
def test_a_writer_waits_for_no_reader_and_for_another_writer_only_so_long(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database_url: str
):
    monkeypatch.setenv("POLICYSPLIT_DATABASE_LOCK_SECONDS", "0.4")
    api: Api = request.getfixturevalue("api")
    write = partial(httpx.delete, f"{api.url}/v1/files/file-none", timeout=20)
    with read_session() as session:
        session.execute(text("SELECT count(*) FROM jobs"))  # its snapshot lasts
        assert write().status_code == 404
    with write_session() as session:
        session.execute(text("UPDATE projects SET name = 'other'"))
        answer = write()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_locked")
        assert "0.4 s" in answer.json()["error"]["message"]
        assert httpx.get(f"{api.url}/v1/files", timeout=20).status_code == 200, "who reads waits for nobody"
    assert write().status_code == 404


@on_postgresql
def test_a_client_that_leaves_takes_its_query_along(api: Api, database_url: str):
    place = urlsplit(api.url)
    assert place.hostname and place.port
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%checkpoints%' AND wait_event_type = 'Lock'"
    )
    with (
        psycopg.connect(database_url) as other,
        psycopg.connect(database_url, autocommit=True) as observer,
    ):
        other.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")

        def queries() -> int:
            row = observer.execute(waiting).fetchone()
            assert row is not None
            return row[0]

        clients = [socket.create_connection((place.hostname, place.port)) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        eventually(lambda: queries() == len(clients))
        for client in clients:
            client.close()
        eventually(lambda: queries() == 0, get_settings().database_lock_seconds / 2)
    assert httpx.get(f"{api.url}/v1/models", timeout=20).status_code == 200
    assert get_engine().pool.checkedout() == 0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("change", "path"),
    [("files RENAME COLUMN purpose TO aim", "files"), ("api_keys RENAME TO forgotten", "models")],
    ids=["in a session", "of the key"],
)
def test_a_statement_that_the_database_refuses_is_a_fault_of_ours(
    api: Api, engine: Engine, caplog: pytest.LogCaptureFixture, change: str, path: str
):
    """It answers: who is told to try again would do so for ever."""
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {change}"))
    answer = httpx.get(f"{api.url}/v1/{path}", headers={"authorization": f"Bearer sk-{'x' * 43}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in caplog.text
    assert "ProgrammingError" in caplog.text
    assert "SELECT" not in answer.text
    assert httpx.get(f"{api.url}/healthz").status_code == 200
