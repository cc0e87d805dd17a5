"""Single rows by key, for requests that come by the thousand: without a session, and without a thread.

The statement is SQLAlchemy's, made into text once. SQLite, a part of this process, answers in less time than
a change of thread takes, so it is asked on the event loop; PostgreSQL is waited for without holding the loop
up. Values come as the driver has them: a statement casts what it wants as text.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import ColumnElement, SelectBase
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import PoolProxiedConnection

from app.core.db import connection_options, get_engine, told_apart
from app.core.settings import get_settings

Row = Sequence[Any]
#: Connections to PostgreSQL; more requests than that wait for one.
QUICK_CONNECTIONS = 8


class QuickReads:
    """The connections of one API process; used on its event loop alone."""

    def __init__(self) -> None:
        self._sqlite: PoolProxiedConnection | None = None
        self._idle: asyncio.LifoQueue[psycopg.AsyncConnection | None] | None = None
        self._closed = False

    async def rows(self, statement: SelectBase, **values: object) -> Sequence[Row]:
        """What ``statement`` finds for the values of its bind parameters, each given by name."""
        if get_engine().dialect.name == "sqlite":
            text, names, constants = _sqlite_text(statement)
            given = constants | values
            return self._ask_sqlite(text, [given[name] for name in names])
        text, constants = _postgresql_text(statement)
        return await self._ask_postgresql(text, constants | values)

    def _ask_sqlite(self, text: str, values: list[object]) -> Sequence[Row]:
        if self._sqlite is None:
            # Its own, kept: the pool hands out and takes back in more time than a row takes.
            self._sqlite = get_engine().raw_connection()
        try:
            return self._sqlite.cursor().execute(text, values).fetchall()
        except sqlite3.OperationalError as error:
            raise told_apart(error, text) from error

    async def _ask_postgresql(self, text: str, values: dict[str, object]) -> Sequence[Row]:
        if self._idle is None:
            self._idle = asyncio.LifoQueue()
            for _ in range(QUICK_CONNECTIONS):
                self._idle.put_nowait(None)
        connection = await self._idle.get()
        try:
            try:
                connection = connection or await _connect()
                return await _fetch(connection, text, values)
            except psycopg.OperationalError:
                if connection is not None and not connection.closed:
                    raise  # the server's own answer, such as that it took too long
                # It was closed while it was idle. Once more on a new one; that one's error is the answer.
                connection = await _connect()
                return await _fetch(connection, text, values)
        except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
            raise told_apart(error, text) from error
        finally:
            if connection is not None and self._closed:
                await connection.close()
            usable = connection is not None and not connection.closed
            self._idle.put_nowait(connection if usable else None)

    async def close(self) -> None:
        """Give the connections back; one that a request uses is closed when the request ends."""
        self._closed = True
        if self._sqlite is not None:
            self._sqlite.close()
        while self._idle is not None and not self._idle.empty():
            connection = self._idle.get_nowait()
            if connection is not None:
                await connection.close()


async def _connect() -> psycopg.AsyncConnection:
    url = get_settings().resolved_database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    settings = get_settings()
    # Every statement is a transaction of its own, prepared when it is first sent.
    options: dict[str, Any] = {"prepare_threshold": 0} | connection_options(
        settings, settings.database_statement_seconds
    )
    return await psycopg.AsyncConnection.connect(url, autocommit=True, **options)


async def _fetch(connection: psycopg.AsyncConnection, text: str, values: dict[str, object]) -> Sequence[Row]:
    cursor = await connection.execute(text.encode(), values)
    return await cursor.fetchall()


class json_part(ColumnElement[str]):
    """The part of a JSON column at a path of keys, as text; SQLAlchemy's own needs its bind processing."""

    inherit_cache = True

    def __init__(self, column: object, *path: str):
        self.column, self.path = column, path


@compiles(json_part, "sqlite")
def _sqlite_part(part: json_part, compiler: Any, **options: Any) -> str:
    return f"json_extract({compiler.process(part.column, **options)}, '$.{'.'.join(part.path)}')"


@compiles(json_part, "postgresql")
def _postgresql_part(part: json_part, compiler: Any, **options: Any) -> str:
    keys = "".join(f" -> '{key}'" for key in part.path)
    return f"CAST({compiler.process(part.column, **options)}{keys} AS TEXT)"


@lru_cache
def _sqlite_text(statement: SelectBase) -> tuple[str, list[str], dict[str, object]]:
    compiled = statement.compile(dialect=sqlite.dialect())
    return str(compiled), list(compiled.positiontup or ()), dict(compiled.params)


@lru_cache
def _postgresql_text(statement: SelectBase) -> tuple[str, dict[str, object]]:
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="pyformat"))
    return str(compiled), dict(compiled.params)
