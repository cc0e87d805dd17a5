"""Rollouts say how undecided and how surprising they were, so that lists need not read their tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_COLUMNS = ("entropy", "surprisal")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("rollouts", sa.Column(name, sa.Float(53), nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("rollouts", name)
