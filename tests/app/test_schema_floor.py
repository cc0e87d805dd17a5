"""Code of before on a schema of after: it works down to the floor, and says what to do below it."""

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, select, update
from sqlalchemy.engine.interfaces import ReflectedColumn

from app.cli.errors import CliError
from app.cli.schema import migrate_database
from app.core.db import build_engine, read_session, write_session
from app.core.migrate import alembic_config, current_revision, schema_standing, upgrade_to_head
from app.core.tables import SchemaFloor


@pytest.fixture
def engine(database_url: str):
    engine = build_engine(database_url)
    yield engine
    engine.dispose()


def at(engine: Engine, revision: str, floor: str | None = None) -> None:
    """As if another version had been here."""
    with write_session(engine) as session:
        session.connection().exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        if floor:
            session.execute(update(SchemaFloor).values(revision=floor))


def test_a_later_schema_is_worked_with_down_to_its_floor(engine: Engine, database_url: str) -> None:
    assert schema_standing(engine).problem is None
    at(engine, "9998")
    standing = schema_standing(engine)
    assert (standing.newer, standing.problem) == (True, None)
    migrate_database(database_url)
    assert current_revision(engine) == "9998", "what is newer is left as it is"

    at(engine, "9999", floor="9990")
    standing = schema_standing(engine)
    assert standing.newer and standing.problem is not None
    assert "works with versions from 9990 on" in standing.problem
    with pytest.raises(CliError, match="install the version that the database was upgraded with"):
        migrate_database(database_url)

    at(engine, "0001")
    standing = schema_standing(engine)
    assert not standing.newer and standing.problem is not None
    assert "run `policysplit migrate`" in standing.problem


def test_an_empty_database_and_one_of_others_are_told_apart(empty_database_url: str) -> None:
    engine = build_engine(empty_database_url)
    try:
        problem = schema_standing(engine).problem
        assert problem is not None and "it is empty" in problem
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('of-others')")
        problem = schema_standing(engine).problem
        assert problem is not None and "at revision of-others" in problem
    finally:
        engine.dispose()


def columns(engine: Engine) -> dict[tuple[str, str], ReflectedColumn]:
    """All of them, by table and name."""
    tables = inspect(engine)
    return {
        (table, column["name"]): column
        for table in tables.get_table_names()
        if not table.startswith("rollouts_search")
        for column in tables.get_columns(table)
    }


def uniques(engine: Engine) -> set[tuple[str, tuple[str | None, ...]]]:
    tables = inspect(engine)
    return {
        (table, tuple(index["column_names"]))
        for table in tables.get_table_names()
        for index in tables.get_indexes(table)
        if index["unique"]
    }


def test_what_code_of_the_floor_uses_is_there_as_it_was(empty_database_url: str) -> None:
    """Expanded before contracted: whoever takes away or narrows moves the floor up in the same migration.

    Nothing that was there is gone or of another type; what is new can be left out by who does not know it.
    """
    upgrade_to_head(empty_database_url)
    engine = build_engine(empty_database_url)
    try:
        with read_session(engine) as session:
            floor = session.scalar(select(SchemaFloor.revision))
        assert floor is not None
        after, unique_after = columns(engine), uniques(engine)
        command.downgrade(alembic_config(empty_database_url), floor)
        before, unique_before = columns(engine), uniques(engine)
    finally:
        engine.dispose()
    assert before.keys() <= after.keys(), "a column or table that older code uses is gone"
    known = {table for table, _ in before}
    for place, column in after.items():
        if place in before:
            assert repr(column["type"]) == repr(before[place]["type"]), place
            assert column["nullable"] or not before[place]["nullable"], f"{place} takes no null any more"
        elif place[0] in known:
            assert column["nullable"] or column["default"] is not None, f"older code does not write {place}"
    new = {(table, names) for table, names in unique_after - unique_before if table in known}
    assert not new, "older code does not know that these have to differ"
