"""Why that checkpoint is a job's result. NULL, as of all jobs before: not told."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("result_reason", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "result_reason")
