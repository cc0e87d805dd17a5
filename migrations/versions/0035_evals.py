"""Evals, their runs, and what each run made of each item."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_OPEN = sa.text("finished_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "evals",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("data_source_config", sa.JSON(), nullable=False),
        sa.Column("testing_criteria", sa.JSON(), nullable=False),
        sa.Column("user_metadata", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_evals_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evals"),
        sa.UniqueConstraint("project_id", "idempotency_key", name="uq_evals_project_id_idempotency_key"),
    )
    op.create_index("ix_evals_listing", "evals", ["project_id", "created_at", "id"])
    op.create_index("ix_evals_updated", "evals", ["project_id", "updated_at", "id"])
    op.create_table(
        "eval_runs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("eval_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=True),
        sa.Column("finished_at", sa.Float(53), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("mode", sa.String(16), nullable=True),
        sa.Column("weights", sa.String(512), nullable=True),
        sa.Column("file_id", sa.String(64), nullable=True),
        sa.Column("data_source", sa.JSON(), nullable=False),
        sa.Column("inline_rows", sa.JSON(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("errored", sa.Integer(), nullable=False),
        sa.Column("criteria", sa.JSON(), nullable=False),
        sa.Column("usage", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("user_metadata", sa.JSON(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("pause_requested", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(255), nullable=True),
        sa.Column("lease_expires_at", sa.Float(53), nullable=True),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name="fk_eval_runs_eval_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_eval_runs_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_eval_runs"),
        sa.UniqueConstraint("project_id", "idempotency_key", name="uq_eval_runs_project_id_idempotency_key"),
    )
    op.create_index("ix_eval_runs_listing", "eval_runs", ["eval_id", "created_at", "id"])
    op.create_index("ix_eval_runs_project", "eval_runs", ["project_id", "id"])
    op.create_index("ix_eval_runs_finished", "eval_runs", ["finished_at"])
    for name, columns in (
        ("ix_eval_runs_open", ["status", "created_at"]),
        ("ix_eval_runs_open_project", ["project_id", "total"]),
        ("ix_eval_runs_open_file", ["file_id"]),
        ("ix_eval_runs_open_model", ["weights"]),
    ):
        op.create_index(name, "eval_runs", columns, postgresql_where=_OPEN, sqlite_where=_OPEN)
    op.create_table(
        "eval_output_items",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("item", sa.JSON(), nullable=False),
        sa.Column("item_key", sa.String(32), nullable=False),
        sa.Column("rewards", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("sample", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["eval_runs.id"], name="fk_eval_output_items_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_eval_output_items"),
        sa.UniqueConstraint("run_id", "position", name="uq_eval_output_items_run_id_position"),
    )
    op.create_index("ix_eval_output_items_status", "eval_output_items", ["run_id", "status", "position"])


def downgrade() -> None:
    for table in ("eval_output_items", "eval_runs", "evals"):
        op.drop_table(table)
