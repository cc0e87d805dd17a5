"""A worker's row has the Ray cluster that it starts runs on."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("training_workers", sa.Column("ray", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("training_workers", "ray")
