"""Keys that manage keys: which are the operator's, who made each, and when it was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def double() -> sa.types.TypeEngine[float]:
    return sa.Float(53).with_variant(sa.DOUBLE_PRECISION(), "postgresql")


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("operator", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("api_keys", sa.Column("created_by", sa.String(64), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", double(), nullable=True))


def downgrade() -> None:
    for name in ("last_used_at", "created_by", "operator"):
        op.drop_column("api_keys", name)
