"""What projects use by day, what that costs, and what they may use."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

_LIMITS = {
    "max_jobs": sa.Integer(),
    "max_gpu_hours": sa.Float(53),
    "max_bytes": sa.BigInteger(),
    "requests_per_minute": sa.Integer(),
}
_UNCOUNTED = ("uncounted_trained", "uncounted_sampled", "uncounted_gradings")
_SUMS = ("trained_tokens", "sampled_tokens", "gradings", "requests", "input_tokens", "output_tokens")


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("gpu_seconds", sa.Float(53), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*_SUMS, "storage_bytes")),
        sa.PrimaryKeyConstraint("project_id", "day", "job_id", "model", "mode", name="pk_usage"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_usage_project_id"),
    )
    op.create_index("ix_usage_day", "usage", ["day"])
    op.create_index("ix_usage_job", "usage", ["job_id", "day"])
    op.create_table(
        "price_lists",
        sa.Column("since", sa.String(10), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("prices", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("since", name="pk_price_lists"),
    )
    for name, kind in _LIMITS.items():
        op.add_column("projects", sa.Column(name, kind, nullable=True))
    op.add_column("job_attempts", sa.Column("counted_at", sa.Float(53), nullable=True))
    for name in _UNCOUNTED:
        op.add_column("job_attempts", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    for name in (*_UNCOUNTED, "counted_at"):
        op.drop_column("job_attempts", name)
    for name in _LIMITS:
        op.drop_column("projects", name)
    op.drop_table("price_lists")
    op.drop_table("usage")
