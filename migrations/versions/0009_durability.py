"""Causes of attempts' ends; priorities of jobs, and what they take of the disk."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_attempts", sa.Column("cause", sa.String(length=32), nullable=True))
    op.add_column("job_attempts", sa.Column("message", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("disk_bytes", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("jobs", "disk_bytes")
    op.drop_column("jobs", "priority")
    op.drop_column("job_attempts", "message")
    op.drop_column("job_attempts", "cause")
