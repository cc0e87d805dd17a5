"""The service behind a real PgBouncer in transaction mode: each commit gives the connection to another."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from app.core.migrate import current_revision, head_revision, upgrade_to_head
from tests.fixtures.api import Api, create_job, sums
from tests.fixtures.databases import temporary_database
from tests.fixtures.workers import eventually

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: pgbouncer)")


@pytest.fixture
def database_url(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database behind a pooler with three connections to it, which is migrated through it."""
    assert PGBOUNCER is not None
    monkeypatch.setenv("POLICYSPLIT_DATABASE_POOLER", "true")
    with temporary_database(postgres_url) as url, socket.create_server(("127.0.0.1", 0)) as free:
        parsed, port = make_url(url), free.getsockname()[1]
        free.close()
        place = parsed.query.get("host") or parsed.host
        configuration = tmp_path / "pgbouncer.ini"
        user = parsed.username or "postgres"
        configuration.write_text(
            f"[databases]\n{parsed.database} = host={place} dbname={parsed.database} user={user}"
            + (f" port={parsed.port}" if parsed.port else "")
            + f"\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\n"
            "default_pool_size = 3\nmax_client_conn = 200\n"
        )
        # It refuses to be root; the server's socket is open to its own user.
        owner = ["-u", Path(str(place)).owner()] if os.geteuid() == 0 else []
        command = [PGBOUNCER, *owner, str(configuration)]
        pooler = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
        try:
            url = f"postgresql://{user}@127.0.0.1:{port}/{parsed.database}"
            eventually(lambda: _answers(url))
            upgrade_to_head(url)
            yield url
        finally:
            pooler.terminate()
            pooler.wait()


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, prepare_threshold=None):
            return True
    except psycopg.OperationalError:
        return False


def test_many_requests_share_three_connections(api: Api) -> None:
    with api.client() as client:
        job_id = create_job(client, api, api.upload(client, sums())).id
    paths = ["files", "models", "storage", "fine_tuning/jobs", f"fine_tuning/jobs/{job_id}"] * 40

    def ask(path: str) -> int:
        return httpx.get(f"{api.url}/v1/{path}", timeout=30).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, paths)) == {200}


def test_a_schema_is_upgraded_through_it(database_url: str) -> None:
    assert current_revision(database_url) == head_revision()
    upgrade_to_head(database_url)
