"""Files say which methods can learn from their rows."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("unfit", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("files", "unfit")
