"""Changes of a filled database while it is used: nobody waits for them for long."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

#: Of one transaction, which locks them: whoever writes one of them meanwhile waits for it.
ROWS = 200


def create_index(name: str, table: str, columns: list[Any], **options: Any) -> None:
    """``op.create_index`` that blocks no writer.

    PostgreSQL leaves an invalid index behind where one was cut off: that one is made anew.
    """
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        op.create_index(name, table, columns, **options)
        return
    invalid = sa.text(
        "SELECT 1 FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = :name AND NOT indisvalid"
    )
    with op.get_context().autocommit_block():
        # The build waits for the transactions that there are, and the wait blocks nobody.
        op.execute("SET lock_timeout = 0")
        if connection.execute(invalid, {"name": name}).first():
            op.drop_index(name, table_name=table, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_concurrently=True, if_not_exists=True, **options)


def drop_index(name: str, table: str) -> None:
    """``op.drop_index`` that blocks no writer."""
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, table_name=table)
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


def in_parts(table: str, key: str, statement: str) -> None:
    """Run a statement for some rows at a time, in the order of their ``key``, each time committed.

    They are those with ``key > :after AND key <= :last``. Some may be done again.
    """
    for part in parts(table, key):
        op.get_bind().execute(sa.text(statement), part)


def parts(table: str, key: str) -> Iterator[dict[str, str]]:
    """``after`` and ``last`` of some rows at a time; each statement in between is committed by itself."""
    connection = op.get_bind()
    last = sa.text(
        f"SELECT max({key}) FROM ("
        f"SELECT {key} FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT {ROWS}) AS part"
    )
    after = ""
    with op.get_context().autocommit_block():
        while (end := connection.scalar(last, {"after": after})) is not None:
            yield {"after": after, "last": end}
            after = end
