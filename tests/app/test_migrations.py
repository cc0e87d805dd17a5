"""The migrations make the tables that the code declares, on both databases, and can be undone."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, select, update

from app.core.db import build_engine, read_session, write_session
from app.core.migrate import alembic_config, current_revision, head_revision, upgrade_to_head
from app.core.tables import (
    DEFAULT_PROJECT,
    NO_REWARD,
    File,
    Job,
    JobMetadata,
    JobReward,
    Project,
    Table,
)
from app.series.repository import seal, upsert_steps


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


def add_job(engine: Engine, name: str, metadata: str = "NULL") -> None:
    """A job as the release of 0018 writes it."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, project_id, request_sha256, created_at, status, model, seed, method, "
            "run_spec, result_files, step, total_steps, cancel_requested, pause_requested, attempt, "
            f"not_before, user_metadata) VALUES ('{name}', 'proj_default', 'x', 1.0, 'paused', 'tiny', "
            f"0, '{{}}', '{{}}', '[]', 1, 1, false, false, 1, 0.0, {metadata})"
        )


def test_jobs_of_before_are_found_by_their_metadata(empty_database_url: str, monkeypatch: pytest.MonkeyPatch):
    url = empty_database_url
    monkeypatch.setattr("migrations.online.ROWS", 2)
    command.upgrade(alembic_config(url), "0018")
    engine = build_engine(url)

    try:
        for number, metadata in enumerate(('\'{"team": "a", "x.\\"y": "b"}\'', "NULL", "'{}'") * 2):
            add_job(engine, f"old-{number}", metadata)
        upgrade_to_head(url)
        if engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                known = connection.exec_driver_sql("SELECT reltuples FROM pg_class WHERE relname = 'jobs'")
                assert known.scalar_one() == 6, "it plans by what the upgrade has made"
        add_job(engine, "new", '\'{"team": "a"}\'')
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


def test_jobs_of_before_have_their_newest_rewards(empty_database_url: str, monkeypatch: pytest.MonkeyPatch):
    """From points that are rows, that are packed, and from both; a job that is made meanwhile has a row."""
    url = empty_database_url
    monkeypatch.setattr("migrations.online.ROWS", 2)
    command.upgrade(alembic_config(url), "0025")
    engine = build_engine(url)
    normal, other = "train/N/reward", "train/H/reward"
    packed = {step: step / 1000 for step in range(1, 500)}
    try:
        for name in ("rows", "packed", "both", "none", "whole"):
            add_job(engine, name)
        with write_session(engine) as session:
            upsert_steps(
                session, "rows", {1: {normal: 0.5, other: 0.25}, 2: {normal: 0.75, "train/loss": 9.0}}
            )
            upsert_steps(session, "packed", {step: {normal: value} for step, value in packed.items()})
            seal(session, "packed")
            upsert_steps(session, "both", {step: {normal: value} for step, value in packed.items()})
            seal(session, "both")
            upsert_steps(session, "both", {498: {normal: -1.0}, 499: {normal: -2.0}})  # done again
            upsert_steps(session, "whole", {step: {other: step / 1000} for step in range(240)})
            seal(session, "whole")
        command.upgrade(alembic_config(url), "0026")
        add_job(engine, "meanwhile")
        with write_session(engine) as session:
            session.execute(update(JobReward).where(JobReward.job_id == "meanwhile").values(normal=0.125))
        upgrade_to_head(url)
        with write_session(engine) as session:
            session.add(Project(id="elsewhere", name="", created_at=1.0))
            session.flush()
            session.get_one(Job, "rows").project_id = "elsewhere"
        columns = JobReward.job_id, JobReward.project_id, JobReward.normal, JobReward.high_entropy
        with read_session(engine) as session:
            found = {name: rest for name, *rest in session.execute(select(*columns)).all()}
        assert found == {
            "rows": ["elsewhere", 0.75, 0.25],
            "packed": [DEFAULT_PROJECT, 0.499, NO_REWARD],
            "both": [DEFAULT_PROJECT, -2.0, NO_REWARD],
            "none": [DEFAULT_PROJECT, NO_REWARD, NO_REWARD],
            "whole": [DEFAULT_PROJECT, NO_REWARD, 0.239],
            "meanwhile": [DEFAULT_PROJECT, 0.125, NO_REWARD],
        }
        with write_session(engine) as session:
            session.delete(session.get_one(Job, "none"))
        with read_session(engine) as session:
            assert session.get(JobReward, "none") is None
    finally:
        engine.dispose()
