"""Sessions: readers take no lock, writers never start as readers."""

import gc
import sqlite3
import threading
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, func, select

from app.core.db import build_engine, close_engine, read_session, write_session
from app.core.tables import Project


def project(name: str) -> Project:
    return Project(id=name, name=name, created_at=0.0)


def test_readers_and_a_writer_do_not_wait_for_each_other(engine: Engine):
    count = select(func.count()).select_from(Project)
    with write_session(engine) as writer:
        writer.add(project("a"))
        writer.flush()
        with read_session(engine) as reader:
            assert reader.scalar(count) == 1, "not committed yet"
    with read_session(engine) as reader:
        assert reader.scalar(count) == 2
        with write_session(engine) as writer:
            writer.add(project("b"))
        assert reader.scalar(count) == 2, "what it reads is of one moment"
    with read_session(engine) as reader:
        assert reader.scalar(count) == 3


def test_concurrent_read_then_write_transactions_all_succeed(engine: Engine):
    """On SQLite a transaction that begins as a reader fails with "locked" when it wants to write."""
    errors: list[Exception] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                with write_session(engine) as session:
                    session.scalar(select(func.count()).select_from(Project))
                    session.add(project(f"{name}{number}"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_connection_in_use_is_closed_when_it_comes_back_to_a_closed_engine(database_url: str):
    engine = build_engine(database_url)
    with engine.connect() as before, engine.connect() as used:
        raw, idle = used.connection.dbapi_connection, before.connection.dbapi_connection
        before.close()
        close_engine(engine)
        assert used.exec_driver_sql("SELECT 1").scalar() == 1, "whoever uses it can go on"
        assert _is_closed(idle)
    assert _is_closed(raw)
    del used, before, raw, idle, engine
    gc.collect()  # an open one would say so here, and fail the test


def _is_closed(connection: Any) -> bool:
    """Of a driver's connection: SQLite's and psycopg's refuse to give a cursor then."""
    try:
        connection.cursor()
    except (sqlite3.ProgrammingError, psycopg.OperationalError):
        return True
    return False


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path):
    engine = build_engine(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        with engine.connect() as connection:
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert found == ["wal", 2, 1]
    finally:
        engine.dispose()
