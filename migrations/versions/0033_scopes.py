"""Keys say what they may do; those without a word may do everything, as before."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scopes", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "scopes")
