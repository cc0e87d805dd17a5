"""Jobs from before 0020 get into the index of metadata, some at a time; PostgreSQL's own one goes."""

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index, in_parts

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_metadata"
_ADD = """
    INSERT INTO job_metadata (project_id, key, value, created_at, job_id)
    SELECT jobs.project_id, pairs.key, pairs.value, jobs.created_at, jobs.id
    FROM jobs CROSS JOIN {pairs}
    WHERE jobs.id > :after AND jobs.id <= :last
    ON CONFLICT DO NOTHING
"""
_PAIRS = {
    "sqlite": "json_each(jobs.user_metadata) AS pairs ON pairs.type = 'text'",
    "postgresql": "LATERAL json_each_text("
    "CASE json_typeof(jobs.user_metadata) WHEN 'object' THEN jobs.user_metadata END) AS pairs",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    in_parts("jobs", "id", _ADD.format(pairs=_PAIRS[dialect]))
    if dialect == "postgresql":
        drop_index(_INDEX, "jobs")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        pairs = sa.text("CAST(user_metadata AS JSONB) jsonb_path_ops")
        create_index(_INDEX, "jobs", [pairs], postgresql_using="gin")
