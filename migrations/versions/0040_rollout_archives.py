"""What of jobs' rollouts is in archives."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollout_archives",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.Integer(), nullable=False),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("last_group", sa.Integer(), nullable=False),
        sa.Column("last_index", sa.Integer(), nullable=False),
        sa.Column("lowest_id", sa.BigInteger(), nullable=False),
        sa.Column("highest_id", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("sole", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_rollout_archives"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_rollout_archives_job_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("rollout_archives")
