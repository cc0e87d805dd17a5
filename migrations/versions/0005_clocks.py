"""What a job's pace and its budgets are computed from."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def double() -> sa.types.TypeEngine[float]:
    return sa.Float(53).with_variant(sa.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("clock_step", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("clock_at", double(), nullable=True))
    op.add_column("jobs", sa.Column("stepped_at", double(), nullable=True))
    op.add_column("jobs", sa.Column("budget_step", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("budget_seconds", double(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("gpus", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("gpus", "budget_seconds", "budget_step", "stepped_at", "clock_at", "clock_step"):
        op.drop_column("jobs", column)
