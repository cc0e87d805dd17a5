"""Running jobs are found by an index without their leases' ends: a heartbeat changes no index."""

from migrations.online import create_index, drop_index

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("ix_jobs_status_project", "jobs", ["status", "project_id"])
    drop_index("ix_jobs_status", "jobs")


def downgrade() -> None:
    create_index("ix_jobs_status", "jobs", ["status", "lease_expires_at"])
    drop_index("ix_jobs_status_project", "jobs")
