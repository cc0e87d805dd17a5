"""Runs migrations on the database of the settings, or on the one that ``app.core.migrate`` names.

Each migration is a transaction of its own, so that one on a filled database can work in parts, and holds no
lock that it waits for itself for longer than :data:`LOCK_MS`: whoever comes after it would wait as well.
PostgreSQL is then told what the tables have become: until autovacuum came by it would plan by what they were.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from app.core.db import build_engine
from app.core.migrate import current_revision, head_revision
from app.core.settings import get_settings
from app.core.tables import Table

LOCK_MS = 500
#: For locks that others hold too long, and for another process that migrates.
PATIENCE_SECONDS = 600.0
_WAIT_SECONDS = 0.2
# Of processes that start together on one PostgreSQL, one migrates; SQLite has its write lock.
_LOCK = 7_405_311_017_420_001
_LOCK_NOT_AVAILABLE = "55P03"


def run() -> None:
    url = context.config.attributes.get("url") or get_settings().resolved_database_url
    engine = build_engine(url, statement_seconds=0)
    try:
        if engine.dialect.name != "postgresql":
            with engine.connect() as connection:
                _migrate(connection)
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = current_revision(engine)
        with _alone(engine, deadline):
            while True:
                try:
                    with engine.connect() as connection:
                        connection.exec_driver_sql(f"SET lock_timeout = {LOCK_MS}")
                        connection.commit()
                        _migrate(connection)
                    break
                except OperationalError as error:
                    refused = getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE
                    if not refused or time.monotonic() > deadline:
                        raise
                # What is done already is not done again.
                time.sleep(_WAIT_SECONDS)
        if before not in (None, head_revision()) and current_revision(engine) == head_revision():
            _analyze(engine)
    finally:
        engine.dispose()


def _analyze(engine: Engine) -> None:
    """Statistics of all tables, and of those whose rows were rewritten also which pages are all visible.

    Autovacuum's own work on a table is not waited for.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (SKIP_LOCKED) jobs")
        connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {', '.join(sorted(Table.metadata.tables))}")


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_type=True,
        # SQLite cannot alter a column: Alembic copies the table instead.
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def _alone(engine: Engine, deadline: float) -> Iterator[None]:
    """No other process migrates within the block.

    The lock is asked for again and again: an index that is made concurrently waits for every statement that
    is under way, also for one that waits for this lock.
    """
    with engine.connect() as connection:
        while True:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_LOCK})").scalar():
                break
            connection.rollback()
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has migrated for {PATIENCE_SECONDS:g} s")
            time.sleep(_WAIT_SECONDS)
        yield


run()
