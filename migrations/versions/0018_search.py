"""Rollouts are searched through an index of their texts' trigrams: pg_trgm of PostgreSQL, FTS5 of SQLite.

A PostgreSQL without the extension, or a role that may not create it, has none: a search reads the job's
rollouts there, within the time that any query has. Who installs it later runs the two statements below.
"""

import logging

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_INDEX = "ix_rollouts_search"
_CAN = """
    SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm') OR (
        EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm')
        AND has_database_privilege(current_database(), 'CREATE'))
"""
# The texts stay where they are; the index follows them.
_SQLITE = (
    "CREATE VIRTUAL TABLE rollouts_search USING fts5("
    "prompt, response, content='rollouts', content_rowid='id', tokenize='trigram')",
    "CREATE TRIGGER rollouts_search_insert AFTER INSERT ON rollouts BEGIN "
    "INSERT INTO rollouts_search (rowid, prompt, response) VALUES (new.id, new.prompt, new.response); END",
    "CREATE TRIGGER rollouts_search_delete AFTER DELETE ON rollouts BEGIN "
    "INSERT INTO rollouts_search (rollouts_search, rowid, prompt, response) "
    "VALUES ('delete', old.id, old.prompt, old.response); END",
    "CREATE TRIGGER rollouts_search_update AFTER UPDATE OF prompt, response ON rollouts BEGIN "
    "INSERT INTO rollouts_search (rollouts_search, rowid, prompt, response) "
    "VALUES ('delete', old.id, old.prompt, old.response); "
    "INSERT INTO rollouts_search (rowid, prompt, response) VALUES (new.id, new.prompt, new.response); END",
    "INSERT INTO rollouts_search (rollouts_search) VALUES ('rebuild')",
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for statement in _SQLITE:
            op.execute(statement)
    elif connection.scalar(sa.text(_CAN)):
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        texts = [sa.text("prompt gin_trgm_ops"), sa.text("response gin_trgm_ops")]
        create_index(_INDEX, "rollouts", texts, postgresql_using="gin")
    else:
        logging.getLogger("app").warning("no pg_trgm: searching rollouts reads all of a job's")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for when in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER rollouts_search_{when}")
        op.execute("DROP TABLE rollouts_search")
    else:
        drop_index(_INDEX, "rollouts")
