"""The database engine and sessions, for SQLite (embedded) and PostgreSQL (production)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import get_settings


def build_engine(url: str) -> Engine:
    """An engine for ``url``. SQLite: WAL, full fsync, foreign keys, 30 s busy wait, immediate writes."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(parsed, pool_size=10, max_overflow=20, pool_pre_ping=True)
    # A connection for each of the 40 threads that answer requests.
    engine = create_engine(parsed, connect_args={"timeout": 30}, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling starts writes late (a deferred transaction that fails with
        # SQLITE_BUSY when it upgrades); we start every transaction ourselves below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


@lru_cache
def get_engine() -> Engine:
    """The engine of this process."""
    return build_engine(get_settings().resolved_database_url)


def close_engine(engine: Engine) -> None:
    """Close the connections of ``engine``; one that a thread still uses is closed when it gives it back.

    ``dispose`` alone forgets those: they would come back to a pool that nobody has any more, open.
    """

    @event.listens_for(engine.pool, "checkin")
    def _close(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.close()

    engine.dispose()


@contextmanager
def write_session(engine: Engine | None = None) -> Iterator[Session]:
    """One transaction: commits at the end of the block, rolls back on an exception.

    Keep it short; nothing slow (a process, a socket, a large file) happens inside.
    """
    with _maker(engine or get_engine()).begin() as session:
        yield session


@contextmanager
def read_session(engine: Engine | None = None) -> Iterator[Session]:
    """A session that only reads; on SQLite it takes no write lock."""
    engine = engine or get_engine()
    with _maker(engine)() as session:
        session.connection(execution_options={"read_only": True})
        yield session


@lru_cache
def _maker(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)
