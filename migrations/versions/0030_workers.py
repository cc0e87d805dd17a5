"""Workers that train have rows, too; those that serve say where they are, and of which version."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "training_workers",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("host", sa.String(256), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("gpus", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=False),
        sa.Column("heartbeat_at", sa.Float(53), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_training_workers"),
    )
    op.add_column("inference_workers", sa.Column("host", sa.String(256), server_default="", nullable=False))
    op.add_column("inference_workers", sa.Column("version", sa.String(64), server_default="", nullable=False))
    op.add_column("inference_workers", sa.Column("gpus", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    for column in ("gpus", "version", "host"):
        op.drop_column("inference_workers", column)
    op.drop_table("training_workers")
