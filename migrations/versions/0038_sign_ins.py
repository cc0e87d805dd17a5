"""Who is signed in to the dashboard."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sign_ins"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_sign_ins_project_id"),
    )
    op.create_index("ix_sign_ins_sha256", "sign_ins", ["sha256"], unique=True)
    op.create_index("ix_sign_ins_expiry", "sign_ins", ["expires_at"])


def downgrade() -> None:
    op.drop_table("sign_ins")
