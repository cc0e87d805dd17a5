"""The migrations make the tables that the code declares, on both databases, and can be undone."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select

from app.core.db import build_engine, read_session, write_session
from app.core.migrate import alembic_config, current_revision, head_revision, upgrade_to_head
from app.core.tables import DEFAULT_PROJECT, File, Job, JobMetadata, Project, Table


def declared(name: str | None, kind: str, _parents: object) -> bool:
    """All but the tables of SQLite's index of texts, which it makes itself."""
    return not (kind == "table" and str(name).startswith("rollouts_search"))


def test_upgrade_check_downgrade(empty_database_url: str):
    url = empty_database_url
    assert current_revision(url) is None
    upgrade_to_head(url)
    upgrade_to_head(url)  # at head already: nothing to do
    assert current_revision(url) == head_revision()

    engine = build_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "include_name": declared}
            )
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


def test_jobs_of_before_are_found_by_their_metadata(empty_database_url: str, monkeypatch: pytest.MonkeyPatch):
    url = empty_database_url
    monkeypatch.setattr("migrations.online.ROWS", 2)
    command.upgrade(alembic_config(url), "0018")
    engine = build_engine(url)

    def add(name: str, metadata: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO jobs (id, project_id, request_sha256, created_at, status, model, seed, method, "
                "run_spec, result_files, step, total_steps, cancel_requested, pause_requested, attempt, "
                f"not_before, user_metadata) VALUES ('{name}', 'proj_default', 'x', 1.0, 'paused', 'tiny', "
                f"0, '{{}}', '{{}}', '[]', 1, 1, false, false, 1, 0.0, {metadata})"
            )

    try:
        for number, metadata in enumerate(('\'{"team": "a", "x.\\"y": "b"}\'', "NULL", "'{}'") * 2):
            add(f"old-{number}", metadata)
        upgrade_to_head(url)
        if engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                known = connection.exec_driver_sql("SELECT reltuples FROM pg_class WHERE relname = 'jobs'")
                assert known.scalar_one() == 6, "it plans by what the upgrade has made"
        add("new", '\'{"team": "a"}\'')
        with write_session(engine) as session:
            session.add(Project(id="elsewhere", name="", created_at=1.0))
            session.flush()
            session.get_one(Job, "old-3").project_id = "elsewhere"
        columns = JobMetadata.project_id, JobMetadata.job_id, JobMetadata.key, JobMetadata.value
        with read_session(engine) as session:
            found = {tuple(row) for row in session.execute(select(*columns))}
        pairs = (("team", "a"), ('x."y', "b"))
        assert found == {
            *((DEFAULT_PROJECT, "old-0", *pair) for pair in pairs),
            *(("elsewhere", "old-3", *pair) for pair in pairs),
            (DEFAULT_PROJECT, "new", "team", "a"),
        }
        with read_session(engine) as session:
            words = dict(session.execute(select(Job.id, Job.words)).all())
        assert words == {f"old-{number}": f"tiny\nold-{number}\ntiny\n" for number in range(6)} | {"new": ""}
    finally:
        engine.dispose()
