"""Rows of workers that train say how much memory a job would have."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("training_workers", sa.Column("memory", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("training_workers", "memory")
