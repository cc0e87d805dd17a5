"""Leases of estimates and replays are fenced as those of jobs are: by attempt and owner."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("estimates", sa.Column("lease_owner", sa.String(length=255), nullable=True))
    op.add_column("job_replays", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("job_replays", "attempt")
    op.drop_column("estimates", "lease_owner")
