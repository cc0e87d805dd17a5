"""The migrations make the tables that the code declares, on both databases, and can be undone."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select

from app.db import build_engine, read_session
from app.migrate import alembic_config, current_revision, head_revision, upgrade_to_head
from app.tables import DEFAULT_PROJECT, File, Project, Table


def test_upgrade_check_downgrade(empty_database_url: str):
    url = empty_database_url
    assert current_revision(url) is None
    upgrade_to_head(url)
    upgrade_to_head(url)  # at head already: nothing to do
    assert current_revision(url) == head_revision()

    engine = build_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Table.metadata) == []
        with read_session(engine) as session:
            assert session.scalars(select(Project.id)).all() == [DEFAULT_PROJECT]

        command.downgrade(alembic_config(url), "base")
        assert inspect(engine).get_table_names() == ["alembic_version"]
    finally:
        engine.dispose()
    upgrade_to_head(url)
    assert current_revision(url) == head_revision()


def test_what_there_was_before_keys_belongs_to_the_default_project(empty_database_url: str):
    url = empty_database_url
    command.upgrade(alembic_config(url), "0001")
    engine = build_engine(url)
    insert = (
        "INSERT INTO files (id, project_id, created_at, filename, purpose, bytes, sha256) "
        "VALUES ('file-old', 'proj_default', 1.0, 'old.jsonl', 'fine-tune', 1, 'x')"
    )
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(insert)
        upgrade_to_head(url)
        for _ in range(2):
            with read_session(engine) as session:
                assert session.scalars(select(File.project_id)).all() == [DEFAULT_PROJECT]
            command.downgrade(alembic_config(url), "0001")
    finally:
        engine.dispose()
