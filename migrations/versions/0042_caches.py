"""Workers' rows say how full their host's cache of the store is."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("training_workers", "inference_workers"):
        op.add_column(table, sa.Column("cache", sa.JSON(), nullable=True))


def downgrade() -> None:
    for table in ("training_workers", "inference_workers"):
        op.drop_column(table, "cache")
