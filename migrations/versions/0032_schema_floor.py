"""The schema says how old code may be that works on it, so that versions can be exchanged one by one."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    floor = op.create_table(
        "schema_floor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_floor"),
    )
    assert floor is not None
    op.bulk_insert(floor, [{"id": 1, "revision": revision}])


def downgrade() -> None:
    op.drop_table("schema_floor")
