"""The migrations make the tables that the code declares, on both databases, and can be undone."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select

from app.db import build_engine, read_session
from app.migrate import alembic_config, current_revision, head_revision, upgrade_to_head
from app.tables import DEFAULT_PROJECT, Project, Table


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
