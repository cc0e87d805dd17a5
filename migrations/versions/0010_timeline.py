"""A job's messages, and its step at a time, without reading the events of all its steps."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_job_events_type", "job_events", ["job_id", "type", "sequence", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_job_events_type", table_name="job_events")
