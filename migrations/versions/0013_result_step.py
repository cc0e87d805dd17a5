"""Which of a job's checkpoints is its result. NULL, as of all jobs before: the last one."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("result_step", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "result_step")
