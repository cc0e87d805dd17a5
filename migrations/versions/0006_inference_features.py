"""What an inference worker's engine can do, and how busy it is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "inference_workers",
        sa.Column("engine", sa.String(64), nullable=False, server_default="transformers"),
    )
    op.add_column("inference_workers", sa.Column("features", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("inference_workers", sa.Column("active", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("active", "features", "engine"):
        op.drop_column("inference_workers", column)
