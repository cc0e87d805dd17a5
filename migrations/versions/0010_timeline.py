"""A job's messages, and its step at a time, without reading the events of all its steps."""

from migrations.online import create_index, drop_index

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_job_events_type", "job_events", ["job_id", "type", "sequence", "created_at"])


def downgrade() -> None:
    drop_index("ix_job_events_type", "job_events")
