"""An index of jobs by their metadata that both databases have: a table, which triggers keep.

Triggers, so that jobs which the release before makes meanwhile are in it as well; 0021 adds those of before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ADD = "INSERT INTO job_metadata (project_id, key, value, created_at, job_id)"
_SQLITE_PAIRS = (
    f"{_ADD} SELECT new.project_id, pairs.key, pairs.value, new.created_at, new.id "
    "FROM json_each(new.user_metadata) AS pairs WHERE pairs.type = 'text'"
)
_SQLITE = (
    "CREATE TRIGGER job_metadata_insert AFTER INSERT ON jobs WHEN new.user_metadata IS NOT NULL "
    f"BEGIN {_SQLITE_PAIRS}; END",
    "CREATE TRIGGER job_metadata_update AFTER UPDATE OF project_id, user_metadata ON jobs BEGIN "
    f"DELETE FROM job_metadata WHERE job_id = old.id; {_SQLITE_PAIRS}; END",
)
_POSTGRESQL = (
    f"""
    CREATE FUNCTION index_job_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM job_metadata WHERE job_id = OLD.id;
        END IF;
        IF json_typeof(NEW.user_metadata) = 'object' THEN
            {_ADD} SELECT NEW.project_id, pairs.key, pairs.value, NEW.created_at, NEW.id
            FROM json_each_text(NEW.user_metadata) AS pairs WHERE pairs.value IS NOT NULL;
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER job_metadata_change AFTER INSERT OR UPDATE OF project_id, user_metadata ON jobs "
    "FOR EACH ROW EXECUTE FUNCTION index_job_metadata()",
)


def upgrade() -> None:
    op.create_table(
        "job_metadata",
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.String(512), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metadata_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "key", "value", "created_at", "job_id", name="pk_job_metadata"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_metadata_job", "job_metadata", ["job_id"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER job_metadata_insert")
        op.execute("DROP TRIGGER job_metadata_update")
    else:
        op.execute("DROP TRIGGER job_metadata_change ON jobs")
        op.execute("DROP FUNCTION index_job_metadata")
    op.drop_table("job_metadata")
