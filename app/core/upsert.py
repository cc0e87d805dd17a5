"""``INSERT … ON CONFLICT``, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps apart."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, ColumnElement, Insert, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from app.core.tables import Table


def insert_for(session: Session, table: type[Table]) -> sqlite.Insert | postgresql.Insert:
    """An insert into ``table`` with ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def upsert_rows(
    session: Session, table: type[Table], key: Sequence[str], rows: Sequence[Mapping[str, object]]
) -> None:
    """Write rows, all with the same columns; those that are there by their ``key`` are overwritten.

    No two of ``rows`` have the same key, and none has NULL for JSON. Making a statement with thousands of
    values takes longer than anything else, so it is made once: SQLite's driver runs it for each row, and
    PostgreSQL gets each column as an array, in one message in place of one a row.
    """
    if not rows:
        return
    names, connection = tuple(rows[0]), session.connection()
    if connection.dialect.name == "sqlite":
        connection.execute(_of_a_row(table, tuple(key), names), list(rows))
        return
    columns = {name: [row[name] for row in rows] for name in names}
    connection.execute(_of_arrays(table, tuple(key), names), columns)


@lru_cache
def _of_a_row(table: type[Table], key: tuple[str, ...], names: tuple[str, ...]) -> Insert:
    return _overwriting(sqlite.insert(table), key, names)


@lru_cache
def _of_arrays(table: type[Table], key: tuple[str, ...], names: tuple[str, ...]) -> Insert:
    given = [_elements(name, table.__table__.c[name].type) for name in names]
    return _overwriting(postgresql.insert(table).from_select(list(names), select(*given)), key, names)


def _overwriting(
    insert: sqlite.Insert | postgresql.Insert, key: tuple[str, ...], names: tuple[str, ...]
) -> Insert:
    replaced = {name: insert.excluded[name] for name in names if name not in key}
    return insert.on_conflict_do_update(index_elements=key, set_=replaced)


def _elements(name: str, type_: TypeEngine[Any]) -> ColumnElement[Any]:
    """The rows' values of a column, one after the other, in step with those of the others."""
    if isinstance(type_, JSON):
        # Within an array each quotation mark would have to be escaped, which takes longer than all else.
        return func.json_array_elements(bindparam(name, type_=type_))
    return func.unnest(bindparam(name, type_=postgresql.ARRAY(type_)))
