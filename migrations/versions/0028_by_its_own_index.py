"""What a project uses, and whose turn it is, are read from an index each. May be cut off and done again."""

import sqlalchemy as sa

from migrations.online import create_index, drop_index, in_parts

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_COUNTS = """
    UPDATE jobs SET checkpoints = (SELECT count(*) FROM checkpoints WHERE checkpoints.job_id = jobs.id)
    WHERE id > :after AND id <= :last
        AND EXISTS (SELECT 1 FROM checkpoints WHERE checkpoints.job_id = jobs.id)
"""
_WAITING = sa.text("status = 'queued'")
_ORDER = ["project_id", sa.text("priority DESC"), "created_at", "id"]
_READ = ["not_before", "cancel_requested"]
_OF_WAITING = {"postgresql_where": _WAITING, "sqlite_where": _WAITING}


def upgrade() -> None:
    in_parts("jobs", "id", _COUNTS)
    create_index("ix_jobs_storage", "jobs", ["project_id", "disk_bytes", "checkpoints"])
    drop_index("ix_jobs_size", "jobs")
    create_index("ix_jobs_due", "jobs", [*_ORDER, *_READ, "status"], **_OF_WAITING)
    drop_index("ix_jobs_waiting", "jobs")


def downgrade() -> None:
    create_index("ix_jobs_waiting", "jobs", _ORDER, postgresql_include=_READ, **_OF_WAITING)
    drop_index("ix_jobs_due", "jobs")
    create_index("ix_jobs_size", "jobs", ["project_id", "disk_bytes"])
    drop_index("ix_jobs_storage", "jobs")
