"""An index for every list and check that read a whole table, and how much a job samples as a column."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index, in_parts

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_UNFINISHED = "finished_at IS NULL"
_INDEXES: list[tuple[str, str, list[Any], str | None]] = [
    ("ix_files_purpose", "files", ["project_id", "purpose", "created_at", "id"], None),
    ("ix_jobs_by_status", "jobs", ["project_id", "status", "created_at", "id"], None),
    ("ix_jobs_finished", "jobs", ["finished_at"], None),
    ("ix_jobs_size", "jobs", ["project_id", "disk_bytes"], None),
    ("ix_jobs_open_training_file", "jobs", ["training_file"], _UNFINISHED),
    ("ix_jobs_open_validation_file", "jobs", ["validation_file"], _UNFINISHED),
    ("ix_jobs_open_model", "jobs", ["model"], _UNFINISHED),
    ("ix_jobs_open_project", "jobs", ["project_id"], _UNFINISHED),
    ("ix_jobs_part", "jobs", ["id"], None),
    ("ix_jobs_without_metadata", "jobs", ["project_id", "created_at", "id"], "user_metadata IS NULL"),
    ("ix_estimates_finished", "estimates", ["finished_at"], None),
    ("ix_rollouts_item", "rollouts", ["job_id", "item", "step", "group", "index"], None),
    ("ix_checkpoints_listing", "checkpoints", ["project_id", "created_at", "id"], None),
    ("ix_checkpoint_permissions_project", "checkpoint_permissions", ["project_id", "checkpoint_id"], None),
    ("ix_experiment_runs_job", "experiment_runs", ["job_id"], None),
    ("ix_webhook_deliveries_over", "webhook_deliveries", ["created_at"], "next_attempt_at IS NULL"),
]
_METADATA = "ix_jobs_metadata"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("planned_samples", sa.Float(53), nullable=True))
    for name, table, columns, where in _INDEXES:
        condition = None if where is None else sa.text(where)
        included = ["bytes"] if name == "ix_files_purpose" else []
        create_index(
            name,
            table,
            columns,
            postgresql_where=condition,
            sqlite_where=condition,
            postgresql_include=included,
            postgresql_ops={"id": "varchar_pattern_ops"} if name == "ix_jobs_part" else {},
        )
    if op.get_bind().dialect.name == "postgresql":
        create_index(
            _METADATA,
            "jobs",
            [sa.text("CAST(user_metadata AS JSONB) jsonb_path_ops")],
            postgresql_using="gin",
        )
    parts = _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL
    in_parts("jobs", "id", _COUNT_SAMPLES.format(**parts))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        drop_index(_METADATA, "jobs")
    for name, table, _, _ in reversed(_INDEXES):
        drop_index(name, table)
    op.drop_column("jobs", "planned_samples")


# Of jobs that have not ended: of the others nobody asks.
_COUNT_SAMPLES = """
    UPDATE jobs SET planned_samples = total_steps * {prompts} * {samples}
    WHERE id > :after AND id <= :last
    AND finished_at IS NULL AND planned_samples IS NULL AND {prompts} IS NOT NULL
"""
_SQLITE = {
    "prompts": "json_extract(run_spec, '$.rollout.prompts_per_step')",
    "samples": "json_extract(run_spec, '$.rollout.samples_per_prompt')",
}
_POSTGRESQL = {
    "prompts": "CAST(run_spec #>> '{rollout,prompts_per_step}' AS DOUBLE PRECISION)",
    "samples": "CAST(run_spec #>> '{rollout,samples_per_prompt}' AS DOUBLE PRECISION)",
}
