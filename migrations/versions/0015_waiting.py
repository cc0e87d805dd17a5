"""Waiting jobs in the order of their turn."""

import sqlalchemy as sa

from migrations.online import create_index, drop_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waiting = sa.text("status = 'queued'")
    create_index(
        "ix_jobs_waiting",
        "jobs",
        ["project_id", sa.text("priority DESC"), "created_at", "id"],
        postgresql_include=["not_before", "cancel_requested"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )


def downgrade() -> None:
    drop_index("ix_jobs_waiting", "jobs")
