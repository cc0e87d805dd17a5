"""Jobs know how many checkpoints they have, so that nobody counts a project's."""

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index, in_parts

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_COUNTS = """
    UPDATE jobs SET checkpoints = (SELECT count(*) FROM checkpoints WHERE checkpoints.job_id = jobs.id)
    WHERE id > :after AND id <= :last
        AND EXISTS (SELECT 1 FROM checkpoints WHERE checkpoints.job_id = jobs.id)
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("checkpoints", sa.Integer, nullable=False, server_default="0"))
    in_parts("jobs", "id", _COUNTS)
    create_index("ix_jobs_storage", "jobs", ["project_id", "disk_bytes", "checkpoints"])
    drop_index("ix_jobs_size", "jobs")


def downgrade() -> None:
    create_index("ix_jobs_size", "jobs", ["project_id", "disk_bytes"])
    drop_index("ix_jobs_storage", "jobs")
    op.drop_column("jobs", "checkpoints")
