"""The database engine and sessions, for SQLite (embedded) and PostgreSQL (production)."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.core.settings import Settings, get_settings
from app.core.strict_json import JsonObject

#: PostgreSQL's class of codes for a statement that is over a limit of its own, such as of nesting.
_OVER_LIMIT = "54"
#: Of SQLite's virtual machine, between two looks at the clock: a millisecond, about.
_INSTRUCTIONS = 20_000
_CANCEL_SECONDS = 2.0
#: Else PostgreSQL shows each statement its own moment: a delivery would be pending beside the attempt that it
#: ended with. SQLite's transactions have one anyway.
_READING: dict[str, JsonObject] = {
    "postgresql": {"isolation_level": "REPEATABLE READ"},
    "sqlite": {"read_only": True},
}


def build_engine(url: str, statement_seconds: float | None = None) -> Engine:
    """An engine for ``url``. SQLite: WAL, full fsync, foreign keys, immediate writes.

    Queries end after ``statement_seconds`` (default: the settings'; 0: never), and a wait for a lock, a
    connection or a free place in the pool after the settings' times: OperationalError, or TimeoutError.
    """
    settings = get_settings()
    seconds = settings.database_statement_seconds if statement_seconds is None else statement_seconds
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        engine = _postgresql(parsed.set(drivername="postgresql+psycopg"), seconds, settings)
    else:
        engine = _sqlite(parsed, seconds, settings)
    event.listen(engine, "handle_error", _tell_refused)
    return engine


def told_apart(error: BaseException, statement: str | None, parameters: Any = None) -> DBAPIError:
    """A driver's error as SQLAlchemy's: ProgrammingError where the database answers, and refuses the
    statement, else OperationalError.

    SQLite's driver has one class for both, PostgreSQL's for some: who waits for a database that is away would
    wait for ever, and tell people so, of a fault of ours.
    """
    if isinstance(error, psycopg.Error):
        over_limit = (error.sqlstate or "").startswith(_OVER_LIMIT)
        refused = over_limit or isinstance(error, psycopg.ProgrammingError)
    else:
        # The lower byte is the kind, of which the whole code is a case.
        refused = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_ERROR
    return (ProgrammingError if refused else OperationalError)(statement, parameters, error)


def _tell_refused(context: ExceptionContext) -> None:
    if isinstance(context.sqlalchemy_exception, OperationalError):
        error = told_apart(context.original_exception, context.statement, context.parameters)
        if isinstance(error, ProgrammingError):
            raise error from context.original_exception


def _postgresql(url: URL, seconds: float, settings: Settings) -> Engine:
    most = settings.database_connections
    engine = create_engine(
        url,
        pool_size=min(10, most),
        max_overflow=most - min(10, most),
        pool_timeout=settings.database_connect_seconds,
        pool_pre_ping=True,
        connect_args=connection_options(settings, seconds),
    )
    if settings.database_pooler:
        # What is set at connecting would be another's connection before long.
        @event.listens_for(engine, "begin")
        def _limit(connection: Connection) -> None:
            connection.exec_driver_sql("; ".join(f"SET LOCAL {one}" for one in _limits(settings, seconds)))

    return engine


def connection_options(settings: Settings, seconds: float) -> dict[str, object]:
    """psycopg's arguments beside the URL. A pooler refuses limits at connecting: see :func:`_limits`."""
    options: dict[str, object] = {"connect_timeout": settings.database_connect_seconds}
    if settings.database_pooler:
        return options | {"prepare_threshold": None}
    return options | {"options": " ".join(f"-c {one}" for one in _limits(settings, seconds))}


def _limits(settings: Settings, seconds: float) -> list[str]:
    lock = round(settings.database_lock_seconds * 1000)
    return [f"statement_timeout={round(seconds * 1000)}", f"lock_timeout={lock}"]


def _sqlite(url: URL, seconds: float, settings: Settings) -> Engine:
    lock = settings.database_lock_seconds
    # A connection for each of the 40 threads that answer requests.
    engine = create_engine(
        url,
        connect_args={"timeout": lock},
        pool_size=20,
        max_overflow=20,
        pool_timeout=settings.database_connect_seconds,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction handling starts writes late (a deferred transaction that fails with
        # SQLITE_BUSY when it upgrades); we start every transaction ourselves below.
        connection.isolation_level = None
        busy = f"busy_timeout={round(lock * 1000)}"
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", busy):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
        if read_only and seconds:
            until = time.monotonic() + seconds
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > until, _INSTRUCTIONS)

    @event.listens_for(engine, "checkin")
    def _unlimited(connection: sqlite3.Connection | None, _record: object) -> None:
        if connection is not None:
            connection.set_progress_handler(None, 0)

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
    def _close(_connection: object, record: ConnectionPoolEntry) -> None:
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
def write_connection(*, one_statement: bool) -> Iterator[Connection]:
    """As :func:`write_session`, without what a session does beside.

    ``one_statement``: no more is sent. It is then a transaction without BEGIN and COMMIT, each of which is a
    turn of the processor for both sides; but a pooler's connection is told its limits by a statement.
    """
    engine = get_engine()
    if one_statement and not get_settings().database_pooler:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection
    else:
        with engine.begin() as connection:
            yield connection


@contextmanager
def read_session(engine: Engine | None = None) -> Iterator[Session]:
    """A session that only reads, all of it as of one moment; on SQLite it takes no write lock.

    Where the caller's context has :class:`Reads`, they can end its queries.
    """
    engine = engine or get_engine()
    reads = READS.get()
    with _maker(engine)() as session:
        connection = session.connection(execution_options=_READING[engine.dialect.name])
        if reads is None:
            yield session
            return
        with reads.running(connection):
            yield session


class Reads:
    """The queries of one request's read sessions, which another thread can end: nobody wants the answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Connection] = set()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._ended

    @contextmanager
    def running(self, connection: Connection) -> Iterator[None]:
        """The connection's queries end with the others' within the block."""
        with self._lock:
            if not self._ended:
                self._running.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(connection)
                if self._ended:
                    # The end may reach it late, and would then be that of another's query.
                    connection.invalidate()

    def end(self) -> None:
        """End what runs."""
        with self._lock:
            self._ended = True
            for connection in self._running:
                driver: Any = connection.connection.driver_connection
                if connection.dialect.name == "postgresql":
                    driver.cancel_safe(timeout=_CANCEL_SECONDS)
                else:
                    driver.interrupt()


READS: ContextVar[Reads | None] = ContextVar("reads", default=None)


@lru_cache
def _maker(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)
