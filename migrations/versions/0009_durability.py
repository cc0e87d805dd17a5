"""Causes of attempts' ends; priorities of jobs, and what they take of the disk; replays."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def double() -> sa.types.TypeEngine[float]:
    return sa.Float(53).with_variant(sa.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.add_column("job_attempts", sa.Column("cause", sa.String(length=32), nullable=True))
    op.add_column("job_attempts", sa.Column("message", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("disk_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "job_replays",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", double(), nullable=False),
        sa.Column("finished_at", double(), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_expires_at", double(), nullable=True),
        sa.Column("enqueued_at", double(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_replays_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_job_replays"),
    )
    op.create_index("ix_job_replays_job", "job_replays", ["job_id", "created_at"])
    op.create_index("ix_job_replays_status", "job_replays", ["status", "created_at"])


def downgrade() -> None:
    op.drop_table("job_replays")
    op.drop_column("jobs", "disk_bytes")
    op.drop_column("jobs", "priority")
    op.drop_column("job_attempts", "message")
    op.drop_column("job_attempts", "cause")
